"""The definition: a plain class (or function), how it is served, and what it is bound to.

A definition is pure: making one loads nothing and starts nothing. It does not know the engine;
a running engine plugs itself into a deployment through `connect`.
"""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, overload

from pydantic import BaseModel

from salver.errors import ConfigError, NotReady
from salver.options import DEPLOYMENT_OPTIONS, DeploymentOptions
from salver.policies import Policy, as_policies
from salver.schema import Schema
from salver.types import Batch, Outcome, Row

Target = TypeVar("Target", bound=Callable[..., Any])


class Handle(Protocol):
    """The one way to ask a deployment; what is behind it is the engine's business."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that answers."""
        ...

    def ask(self, batch: Batch, timeout_s: float | None = None) -> asyncio.Future[list[Outcome]]:
        """Begins at once; the future gives one outcome per row, or says that the time is over.

        Who cancels the future has left: its rows are dropped before they cost a prediction.

        Args:
            batch: The rows.
            timeout_s: Seconds until `DeadlineExceeded`; null means `request_timeout_s`.

        Raises:
            ServingError: If the queue is full or nothing is ready.
        """
        ...


@dataclass(slots=True)
class _Line:
    """Where a running engine plugs in; the one mutable thing about a deployment."""

    handle: Handle | None = None


@dataclass(frozen=True)
class Deployment:
    """A model class (or a composed function), its arguments, options and policies.

    Made by `bind`; immutable. While a service runs, a deployment can be asked in process:
    `await tagger(row)`, `await tagger(rows)` or `tagger.predict(rows)`.
    """

    name: str
    target: Callable[..., Any]
    schema: Schema
    options: DeploymentOptions
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    _line: _Line = field(default_factory=_Line, repr=False, compare=False)

    @property
    def is_composed(self) -> bool:
        """True for a function that asks other deployments."""
        return inspect.iscoroutinefunction(self.target)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies of the options, in order."""
        return as_policies(self.options.policy)

    @property
    def parts(self) -> tuple[Deployment, ...]:
        """The deployments that a composed function is bound to."""
        return tuple(a for a in (*self.args, *self.kwargs.values()) if isinstance(a, Deployment))

    def with_options(self, options: DeploymentOptions) -> Deployment:
        """The same deployment served differently; both answer through the same line."""
        return replace(self, options=options)

    def detached(self) -> Deployment:
        """The same deployment on a line of its own, for one engine among several."""
        return replace(self, _line=_Line())

    def connect(self, handle: Handle | None) -> None:
        """Plugs a running engine in, or out with null; the last one plugged in answers."""
        self._line.handle = handle

    def disconnect(self, handle: Handle) -> None:
        """Unplugs an engine, unless another one was plugged in since."""
        if self._line.handle is handle:
            self._line.handle = None

    @overload
    def __call__(self, rows: Row | BaseModel) -> Awaitable[Outcome]: ...
    @overload
    def __call__(self, rows: Iterable[Row | BaseModel]) -> Awaitable[list[Outcome]]: ...
    def __call__(self, rows: Any) -> Awaitable[Any]:
        """Asks the running service: one row gives an `Outcome`, several give a list of them.

        Raises:
            NotReady: If no service with this deployment runs in this process.
            ServingError: As `Handle.ask`.
        """
        handle = self._handle()
        if isinstance(rows, Mapping | BaseModel):
            return _first(_elsewhere(handle, self._ask(handle, [rows])))
        return _elsewhere(handle, self._ask(handle, list(rows)))

    def predict(self, rows: Iterable[Row | BaseModel]) -> list[Outcome]:
        """The same from synchronous code, blocking; one outcome per row.

        Raises:
            NotReady: If no service with this deployment runs in this process.
            TypeError: For one row, which would be taken for a list of its keys.
            RuntimeError: From a coroutine on the service's own event loop; `await` there.
        """
        if isinstance(rows, Mapping | BaseModel | str | bytes):
            raise TypeError(
                f"{self.name}.predict was given a {type(rows).__name__}; predict takes a list of "
                "rows; write predict([row])."
            )
        handle = self._handle()
        if _running_loop() is handle.loop:
            raise RuntimeError(
                f"{self.name}.predict(...) would block the service's own event loop. "
                f"Write `await {self.name}(rows)` in a coroutine."
            )
        return asyncio.run_coroutine_threadsafe(self._ask(handle, list(rows)), handle.loop).result()

    async def _ask(self, handle: Handle, rows: Sequence[Row | BaseModel]) -> list[Outcome]:
        checked = self.schema.check_rows(rows)
        outcomes: list[Any] = [None] * len(rows)
        for i, failure in checked.rejected.items():
            outcomes[i] = Outcome(None, failure)
        if len(checked.batch):
            answers = await handle.ask(checked.batch)
            for i, outcome in zip(checked.positions, answers, strict=True):
                outcomes[i] = outcome
        return outcomes

    def _handle(self) -> Handle:
        if self._line.handle is None:
            raise NotReady(
                f"{self.name} is not running in this process. Start its service first "
                "(service.run(blocking=False)); a composed function gets its deployments by "
                "bind(...)."
            )
        return self._line.handle


@dataclass(frozen=True)
class Definition:
    """A decorated class or function before it is bound to arguments."""

    name: str
    target: Callable[..., Any]
    schema: Schema
    serving: DeploymentOptions

    def options(self, **changes: Any) -> Definition:
        """A copy with other options; `name` may be given too.

        Raises:
            UnknownOption: For a name that is no option; names its neighbours.
            InvalidOption: For a value that the option cannot take.
        """
        name = changes.pop("name", self.name)
        as_policies(changes.get("policy"))  # a wrong policy is found here, not at start
        return replace(
            self,
            name=_checked_name(name),
            serving=self.serving.replace(changes, f"the options of {name}"),
        )

    def bind(self, *args: Any, **kwargs: Any) -> Deployment:
        """Gives the constructor's arguments (a composed function: its deployments).

        Raises:
            ConfigError: If a class is bound to a deployment, if a deployment or a checkpoint
                stands within another argument, or if the arguments do not fit.
        """
        given = [*args, *kwargs.values()]
        nested = [a for value in given for a in _within(value, set())]
        part = next((a for a in (*given, *nested) if isinstance(a, Deployment)), None)
        composed = inspect.iscoroutinefunction(self.target)
        if part and not composed:
            raise ConfigError(
                f"{self.name} is a model class and was bound to the deployment {part.name}. "
                "Models do not call models: write `@deployment async def f(rows, a, b)` that awaits "
                "both, and bind the deployments to it."
            )
        if nested:
            raise ConfigError(
                f"{self.name}.bind was given {nested[0]!r} within a list, a tuple or a dict, where "
                "it is not looked for; pass it as an argument of its own."
            )
        signature = inspect.signature(self.target)
        try:
            signature.bind(*((None,) if composed else ()), *args, **kwargs)
        except TypeError as error:
            raise ConfigError(
                f"{self.name}.bind{signature} does not take these arguments: {error}."
            ) from None
        return Deployment(self.name, self.target, self.schema, self.serving, args, kwargs)


@dataclass(frozen=True)
class _Attached:
    """A verb of a definition as an attribute of its class, which a subclass does not inherit."""

    definition: Definition
    verb: str

    def __get__(self, instance: Any, owner: type) -> Any:
        if owner is not self.definition.target:
            raise ConfigError(
                f"{owner.__name__} is not decorated; write @deployment(...) above it. "
                f"(It would have served its parent {self.definition.target.__name__}.)"
            )
        return getattr(self.definition, self.verb)


@overload
def deployment(target: Target, /) -> Target: ...
@overload
def deployment(
    *, input: type[BaseModel] | None = None, name: str | None = None, **options: Any
) -> Callable[[Target], Target]: ...
def deployment(
    target: Any = None,
    /,
    *,
    input: type[BaseModel] | None = None,
    name: str | None = None,
    **options: Any,
) -> Any:
    """Makes a class (or an `async def` over rows) servable; returns it unchanged.

    The class keeps working as the plain class it is. `options(...)` and `bind(...)` are attached
    to it.

    Args:
        target: The class or function, when the decorator is used without arguments.
        input: Pydantic model of one row. A function may instead annotate its first parameter as
            `list[Model]`.
        name: Name in URLs, options and logs; the class's own by default.
        **options: See `salver.options.DeploymentOptions`.

    Raises:
        ConfigError: If the target cannot be served; UnknownOption and InvalidOption for options.
    """
    if target is None:
        return lambda decorated: deployment_of(decorated, input, name, options)
    return deployment_of(target, input, name, options)


def deployment_of(
    target: Any, input: type[BaseModel] | None, name: str | None, options: Mapping[str, Any]
) -> Any:
    """Attaches a `Definition` to `target` and returns `target`."""
    definition = definition_of(target, input, name, options)
    for verb in ("options", "bind"):
        own = inspect.getattr_static(target, verb, None)
        ours = isinstance(own, _Attached) or isinstance(getattr(own, "__self__", None), Definition)
        if own is not None and not ours:
            raise ConfigError(
                f"{definition.name} has an attribute {verb!r} of its own, which "
                "@deployment would hide. Give it another name."
            )
        attached = _Attached(definition, verb)
        # Only a class asks its attributes who looks; a function holds the method itself.
        setattr(target, verb, attached if inspect.isclass(target) else getattr(definition, verb))
    return target


def definition_of(
    target: Any, input: type[BaseModel] | None, name: str | None, options: Mapping[str, Any]
) -> Definition:
    """The definition of `target`, which stays as it is.

    Raises:
        ConfigError: As `deployment`.
    """
    _check_target(target)
    model = input or _annotated_model(target)
    if model is None:
        raise ConfigError(
            f"{target.__name__} has no input model. Write @deployment(input=Model) with a pydantic "
            "model that describes one row."
        )
    own = _checked_name(name or target.__name__)
    return Definition(own, target, Schema(model), DeploymentOptions()).options(**options)


def _check_target(target: Any) -> None:
    if inspect.isclass(target):
        if any("__call__" in base.__dict__ for base in target.__mro__):
            return
        raise ConfigError(
            f"{target.__name__} has no __call__. A model class loads in __init__ and maps a batch "
            "in __call__(self, batch)."
        )
    if inspect.iscoroutinefunction(target):
        return
    raise ConfigError(
        f"@deployment was given {target!r}; it takes a class with __call__(self, batch), or an "
        "`async def` over a list of rows that awaits other deployments."
    )


def _within(value: Any, seen: set[int]) -> Iterator[Any]:
    """Deployments and references in the lists, tuples and dicts of an argument."""
    if not isinstance(value, list | tuple | dict) or id(value) in seen:
        return
    seen.add(id(value))
    for one in value.values() if isinstance(value, dict) else value:
        # A reference is known by what it has: models are a layer above, and lists may be long.
        if isinstance(one, Deployment) or (
            hasattr(one, "to_json") and hasattr(one, "tracking_uri")
        ):
            yield one
        else:
            yield from _within(one, seen)


def _annotated_model(target: Any) -> type[BaseModel] | None:
    """The model in `async def f(rows: list[Model])`, if it is written so."""
    if inspect.isclass(target):
        return None
    hints = typing.get_type_hints(target)
    hints.pop("return", None)
    first = next(iter(hints.values()), None)
    arguments = typing.get_args(first)
    if arguments and isinstance(arguments[0], type) and issubclass(arguments[0], BaseModel):
        return arguments[0]
    return None


def _checked_name(name: Any) -> str:
    if isinstance(name, str) and name.isidentifier() and name not in DEPLOYMENT_OPTIONS:
        return name
    raise ConfigError(
        f"A deployment was named {name!r}; a name is a Python identifier that is no option's name, "
        "since it stands in URLs and in options."
    )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _elsewhere(handle: Handle, question: Any) -> list[Outcome]:
    """Awaits on the handle's loop, whichever loop the asker is on (a notebook has its own)."""
    if asyncio.get_running_loop() is handle.loop:
        answer: list[Outcome] = await question
        return answer
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(question, handle.loop))


async def _first(question: Awaitable[list[Outcome]]) -> Outcome:
    return (await question)[0]
