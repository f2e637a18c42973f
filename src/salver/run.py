"""What starts what: the engine, the HTTP server and offline jobs of a service.

This is the one place that knows all of them. It holds no logic of its own beyond the order in
which things start and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from salver.engine import loading
from salver.engine.local import LocalEngine
from salver.errors import ConfigError, NotReady
from salver.service import Service
from salver.settings import Overrides, ServerSettings, gather_overrides

log = logging.getLogger("salver")

HEAVY = ("torch", "tensorflow", "onnxruntime", "jax")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Configuration:
    """Options given outside the code, before they meet a service.

    Attributes:
        config: YAML file, if any.
        sets: `--set` arguments.
        server: Options of the HTTP face given as arguments; the strongest.
    """

    config: Path | None = None
    sets: tuple[str, ...] = ()
    server: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self, service: Service) -> Overrides:
        """The options for the deployments of `service`."""
        return gather_overrides(service.deployments, self.config, self.sets)

    def settings(self, overrides: Overrides) -> ServerSettings:
        """The options of the HTTP face.

        Raises:
            ConfigError: If others could reach the service without a key.
        """
        changes = {**overrides.server, **self.server}
        settings = ServerSettings().replace(changes, "the server options")
        if not settings.is_loopback and not settings.api_key and not settings.insecure:
            raise ConfigError(
                f"host={settings.host} lets other machines ask this service, and there is no API "
                "key. Set SALVER_API_KEY, or say --insecure if something else guards it."
            )
        return settings


class Face:
    """The HTTP side of one engine: the front on a server, from bound to drained.

    Args:
        engine: Answers; may still be starting.
        settings: How to listen.
    """

    def __init__(self, engine: LocalEngine, settings: ServerSettings) -> None:
        from salver.online.front import Front
        from salver.online.http import HttpLimits, make_server

        service = engine.service
        self.front = Front(
            service,
            engine.handles,
            settings=settings,
            registry=engine.metrics.registry,
            readiness=engine.readiness,
            examples=engine.examples,
        )
        hosts = settings.allowed_hosts
        limits = HttpLimits(
            max_body_bytes=settings.max_body_bytes,
            allowed_hosts=None if hosts is None else tuple(hosts),
        )
        self._server = make_server(
            self.front, host=settings.host, port=settings.port, limits=limits
        )
        self._settings = settings

    @property
    def address(self) -> str:
        """URL at which the service answers."""
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.port}"

    async def start(self) -> None:
        """Binds the port.

        Raises:
            ConfigError: If it cannot be bound.
        """
        try:
            await self._server.start()
        except OSError as error:
            raise ConfigError(error.strerror or str(error)) from error

    async def stop(self) -> None:
        """Readiness off, no new connections, requests in flight answered."""
        self.front.begin_shutdown()
        await self._server.stop(self._settings.drain_timeout_s)


async def serve(
    service: Service,
    target: str | None,
    configuration: Configuration,
    say: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serves until `stop` is set.

    The port is bound first, so that health checks answer while models load; predictions get 503
    until they have.
    """
    overrides = configuration.overrides(service)
    settings = configuration.settings(overrides)
    engine = LocalEngine(service, target, overrides)
    face = Face(engine, settings)
    _serving[service] = engine
    _warn_of_heavy_imports(say)
    await face.start()
    say(f"Loading {', '.join(service.deployments)} ...")
    try:
        starting = asyncio.ensure_future(engine.start())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return
        starting.result()
        _say_ready(engine, face, say)
        await stopping
        say("Draining ...")
    finally:
        await face.stop()
        await engine.stop(settings.drain_timeout_s)
        del _serving[service]


def _say_ready(engine: LocalEngine, face: Face, say: Callable[[str], None]) -> None:
    for note in engine.notes:
        say(note)
    for shadowed in face.front.shadowed_routes():
        say(f"Your own route {shadowed} wins over the generated one.")
    for deployment in engine.service.exposed:
        say(f"POST {face.address}{engine.service.route_of(deployment)}  ({deployment.name})")
    say(f"Ready. Try it at {face.address}/docs")


def _warn_of_heavy_imports(say: Callable[[str], None]) -> None:
    loaded = [name for name in HEAVY if name in sys.modules]
    if loaded:
        say(
            f"Importing the service loaded {', '.join(loaded)} into the front, which only costs "
            "memory and time there. Import it inside __init__ of the model class."
        )


def serve_until_signalled(
    service: Service, target: str | None, configuration: Configuration, say: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains; a second signal ends at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def signalled() -> None:
            if stop.is_set():
                os._exit(1)  # replicas end with the process, since they hold its lifeline
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
        await serve(service, target, configuration, say, stop)

    uvloop.run(main())


def predict_files(
    service: Service,
    target: str,
    configuration: Configuration,
    *,
    deployment: str | None,
    paths: tuple[str, str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Runs one offline job from start to end, with progress on stderr.

    Args:
        service: What to run.
        target: Where a child process finds it.
        configuration: Options given outside the code.
        deployment: Which one; may be null when the service exposes one.
        paths: Input, and output folder.
        options: See `salver.offline.job.JobOptions`.

    Returns:
        The manifest.
    """
    from salver.offline.progress import ProgressBar
    from salver.predictions import choose, run_files

    name = choose(service, deployment).name

    async def main() -> dict[str, Any]:
        engine = LocalEngine(service, target, configuration.overrides(service))
        try:
            await engine.start()
            with ProgressBar() as display:
                return await run_files(engine, name, *paths, options, display)
        finally:
            await engine.stop()

    manifest: dict[str, Any] = uvloop.run(main())
    return manifest


class Session:
    """A service running in the background of this process, on an event loop of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="salver-engine", daemon=True
        )
        self._thread.start()
        self.engine: LocalEngine | None = None
        self.face: Face | None = None
        self._settings = ServerSettings()

    def start(self, target: str | None, configuration: Configuration) -> None:
        """Starts the engine; nothing is left behind if it fails."""
        overrides = configuration.overrides(self._service)
        self._settings = configuration.settings(overrides)

        async def start() -> LocalEngine:
            engine = LocalEngine(self._service, target, overrides)
            await engine.start()
            return engine

        self.engine = self.wait_for(start())

    def listen(self) -> Face:
        """Opens the HTTP port."""

        async def listen() -> Face:
            assert self.engine is not None
            face = Face(self.engine, self._settings)
            await face.start()
            return face

        self.face = self.wait_for(listen())
        return self.face

    def wait_for(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine on the session's loop and waits; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """Drains and ends everything, the loop and its thread included."""

        async def stop() -> None:
            if self.face is not None:
                await self.face.stop()
            if self.engine is not None:
                await self.engine.stop(self._settings.drain_timeout_s)
            await self._loop.shutdown_default_executor()

        self.wait_for(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_sessions: dict[Service, Session] = {}  # in the background of this process
_serving: dict[Service, LocalEngine] = {}  # in its main thread


def run_service(service: Service, *, blocking: bool, settings: Mapping[str, Any]) -> None:
    """See `Service.run`."""
    _refuse_while_loading()
    configuration = Configuration(server=settings)
    if blocking:
        serve_until_signalled(service, reference_of(service), configuration, _print)
        return
    session = _session(service, configuration)
    if session.face is not None:
        raise ConfigError(
            f"{service!r} runs already at {session.face.address}. Call shutdown() first."
        )
    try:
        face = session.listen()
    except BaseException:
        shutdown(service)
        raise
    assert session.engine is not None
    _say_ready(session.engine, face, _print)


def predict(service: Service, data: Any, output: Any, options: Mapping[str, Any]) -> Any:
    """See `Service.predict`."""
    from salver import predictions

    _refuse_while_loading()
    session = _session(service, Configuration())
    assert session.engine is not None
    return predictions.predict(session.engine, session.wait_for, data, output, options)


def status(service: Service) -> dict[str, Any]:
    """See `Service.status`."""
    session = _sessions.get(service)
    engine = session.engine if session else _serving.get(service)
    if engine is None:
        raise NotReady(f"{service!r} does not run in this process. Start it with service.run().")
    return engine.readiness()


def shutdown(service: Service) -> None:
    """See `Service.shutdown`."""
    session = _sessions.pop(service, None)
    if session is not None:
        session.close()


def reference_of(service: Service) -> str | None:
    """`module:name` (or `file.py:name` for a script) by which a child process finds a service."""
    for module_name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is not service:
                continue
            if module_name != "__main__":
                return f"{module_name}:{attribute}"
            file = getattr(module, "__file__", None)
            if file:
                return f"{Path(file).resolve()}:{attribute}"
    return None


def _session(service: Service, configuration: Configuration) -> Session:
    if service not in _sessions:
        session = Session(service)
        try:
            session.start(reference_of(service), configuration)
        except BaseException:
            session.close()
            raise
        _sessions[service] = session
    return _sessions[service]


def _refuse_while_loading() -> None:
    if loading.is_loading():
        raise ConfigError(
            "The module of the service runs it while it is being imported. Put the call under "
            "`if __name__ == '__main__':`."
        )


def _print(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
