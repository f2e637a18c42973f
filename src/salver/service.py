"""What is served together: deployments, composed functions and the user's FastAPI app.

A service is a pure description. Running it is the engine's and the command line's business; the
verbs on it (`run`, `predict`, `shutdown`) only pass it on.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from salver.definition import Definition, Deployment, definition_of
from salver.errors import ConfigError


class Service:
    """Deployments served together.

    One deployment answers at `{route_prefix}/predict/`, several at
    `{route_prefix}/{name}/predict/`.

    Args:
        *deployments: Bound deployments; a bare `async def f(rows: list[Model])` is one too.
        app: The user's FastAPI (or other ASGI) app, which answers every other path.
        route_prefix: Prefix of the generated routes.

    Raises:
        ConfigError: If there is no deployment, two share a name, or one is not bound.
    """

    def __init__(self, *deployments: Any, app: Any = None, route_prefix: str = "/") -> None:
        if not deployments:
            raise ConfigError("A service needs at least one deployment: Service(Model.bind(...)).")
        if not isinstance(route_prefix, str) or not route_prefix.startswith("/"):
            raise ConfigError(f"route_prefix was given {route_prefix!r}; it starts with '/'.")
        self.exposed = tuple(_bound(d) for d in deployments)
        self.app = app
        self.route_prefix = route_prefix.rstrip("/")
        self.deployments: dict[str, Deployment] = {}
        for one in _with_parts(self.exposed):
            known = self.deployments.setdefault(one.name, one)
            if known is not one:
                raise ConfigError(
                    f"Two deployments are named {one.name!r}. Give one another name: "
                    f".options(name='...').bind(...)."
                )

    def __repr__(self) -> str:
        return f"Service({', '.join(d.name for d in self.exposed)}, route_prefix={self.route_prefix or '/'!r})"

    def route_of(self, deployment: Deployment) -> str:
        """Path that answers predictions of an exposed deployment."""
        name = "" if len(self.exposed) == 1 else f"/{deployment.name}"
        return f"{self.route_prefix}{name}/predict/"

    def chosen(self, name: str | None) -> Deployment:
        """The deployment to predict with: the one named, or the only one that is exposed.

        Raises:
            ConfigError: If there are several and none is named, or there is none of that name.
        """
        exposed = {deployment.name: deployment for deployment in self.exposed}
        if name is None and len(exposed) == 1:
            return self.exposed[0]
        if name in exposed:
            return exposed[name]
        given = "none was named" if name is None else f"{name!r} was named"
        raise ConfigError(
            f"The service exposes {', '.join(exposed)} and {given}. Choose one with --deployment "
            "(deployment= in Python)."
        )

    def run(self, *, blocking: bool = True, **settings: Any) -> None:
        """Serves over HTTP and prints the address.

        Args:
            blocking: True serves until Ctrl-C or SIGTERM; False returns when ready, and
                `shutdown()` ends it.
            **settings: See `salver.options.ServerSettings`, for example `port=8000`.
        """
        _runner().run_service(self, blocking=blocking, settings=settings)

    def predict(self, data: Any, output: Any = None, **options: Any) -> Any:
        """Predicts offline through the same replicas and policies.

        Args:
            data: A list of rows or a pandas DataFrame; or the path of a file, folder or glob.
            output: Folder for the results, when `data` is a path.
            **options: For files, see `salver.offline.job.JobOptions`.

        Returns:
            For a list, one result per row; for a DataFrame, its copy with the result columns;
            for a path, the manifest of the finished job.
        """
        return _runner().predict(self, data, output, options)

    def status(self) -> dict[str, Any]:
        """State of each deployment's replicas and checkpoints, while the service runs."""
        status: dict[str, Any] = _runner().status(self)
        return status

    def shutdown(self) -> None:
        """Ends what `run(blocking=False)` or `predict` started; leaves no process behind."""
        _runner().shutdown(self)


def _runner() -> Any:
    # The one upward door, opened at call time: describing a service imports nothing that runs.
    return importlib.import_module("salver.run")


def _bound(given: Any) -> Deployment:
    if isinstance(given, Deployment):
        return given
    if isinstance(given, Definition) or hasattr(given, "bind"):
        name = getattr(given, "name", None) or getattr(given, "__name__", repr(given))
        return_hint = f"Service({name}.bind(...))"
        raise ConfigError(f"{name} is not bound to its arguments. Write {return_hint}.")
    if callable(given):
        return definition_of(given, None, None, {}).bind()
    raise ConfigError(f"Service was given {given!r}; it takes deployments made by bind(...).")


def _with_parts(deployments: tuple[Deployment, ...]) -> Iterator[Deployment]:
    for one in deployments:
        yield from _with_parts(one.parts)
        yield one
