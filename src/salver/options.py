"""Options of a deployment and of the HTTP face: their names, defaults and bounds.

Pure values. It does not know what an option does, nor where its value came from.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from salver.errors import ConfigError, InvalidOption, UnknownOption

# What is known of a result beyond it, and given to those who ask.
DETAILS = ("confidence", "novelty", "abstained", "truncated", "version")

Bound = tuple[str, Callable[[Any], bool]]


def _integer(low: int) -> Bound:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= low

    return f"a whole number >= {low}", holds


def _number(low: float, *, open_low: bool = False) -> Bound:
    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return value < math.inf and (value > low if open_low else value >= low)

    return f"a number {'>' if open_low else '>='} {low:g}", holds


def _one_of(*values: str) -> Bound:
    return " or ".join(map(repr, values)), lambda value: value in values


def _kind(kind: type, wanted: str) -> Bound:
    return wanted, lambda value: isinstance(value, kind)


def _optional(bound: Bound) -> Bound:
    wanted, holds = bound
    return f"{wanted}, or null", lambda value: value is None or holds(value)


def _replicas() -> Bound:
    wanted, holds = _optional(_integer(1))
    return f'{wanted}, or "auto" on Ray', lambda value: value == "auto" or holds(value)


# What each option takes, in words and as a test.
_BOUNDS: dict[str, Bound] = {
    "num_replicas": _replicas(),
    "max_batch_size": _optional(_integer(1)),
    "optimize_for": _one_of("throughput", "latency"),
    "batch_wait_timeout_s": _number(0),
    "max_queued_requests": _optional(_integer(1)),
    "request_timeout_s": _number(0, open_low=True),
    "batch_format": _one_of("numpy", "pandas"),
    "replica": _optional(_one_of("process", "thread")),
    "num_cpus": _optional(_number(0, open_low=True)),
    "num_gpus": _number(0),
    "ray_actor_options": _kind(dict, "a mapping"),
    "autoscaling_config": _optional(_kind(dict, "a mapping")),
    "user_config": _optional(_kind(dict, "a mapping")),
    "max_ongoing_requests": _optional(_integer(1)),
    "max_replicas_per_node": _optional(_integer(1)),
    "max_surge_percent": _optional(_integer(0)),
    "graceful_shutdown_timeout_s": _optional(_number(0)),
    "graceful_shutdown_wait_loop_s": _optional(_number(0, open_low=True)),
    "health_check_period_s": _optional(_number(0, open_low=True)),
    "health_check_timeout_s": _optional(_number(0, open_low=True)),
    "startup_timeout_s": _number(0, open_low=True),
    "policy": ("a policy", lambda _value: True),
    "allow_code": _kind(bool, "true or false"),
    "original": _kind(bool, "true or false"),
    "details": (
        f"a list of {', '.join(map(repr, DETAILS))}",
        lambda value: isinstance(value, tuple) and all(name in DETAILS for name in value),
    ),
    "examples": _kind(tuple, "a list of rows"),
    "host": _kind(str, "an address"),
    "port": _integer(0),
    "insecure": _kind(bool, "true or false"),
    "api_key": _optional(
        ("a text that is not empty", lambda value: isinstance(value, str) and value != "")
    ),
    "allowed_hosts": _optional(
        ("a list of host names", lambda v: isinstance(v, list) and all(type(h) is str for h in v))
    ),
    "max_body_bytes": _integer(1),
    "max_rows": _integer(1),
    "drain_timeout_s": _number(0),
    "record": _optional(("the path of a file", lambda v: isinstance(v, str) and v != "")),
    "record_inputs": _kind(bool, "true or false"),
    "max_records": _integer(1000),
}


# Options that only Ray honours, and that change no answer and no capacity where they are not.
RAY_HINTS = (
    "max_ongoing_requests",
    "max_replicas_per_node",
    "max_surge_percent",
    "graceful_shutdown_timeout_s",
    "graceful_shutdown_wait_loop_s",
    "health_check_period_s",
    "health_check_timeout_s",
)
_TUPLES = ("examples", "details")  # a list in YAML
_RESOURCES = ("num_cpus", "num_gpus")  # options that may stand in ray_actor_options too

Settings = TypeVar("Settings", "DeploymentOptions", "ServerSettings")


def _check(settings: Any) -> None:
    for f in fields(settings):
        wanted, holds = _BOUNDS[f.name]
        value = getattr(settings, f.name)
        if not holds(value):
            raise InvalidOption(f.name, value, wanted)


@dataclass(frozen=True)
class DeploymentOptions:
    """How one deployment is served; the names are Ray Serve's where Ray has one.

    Attributes:
        num_replicas: Loaded copies of the model; null is chosen at start, see `engine.planning`.
        max_batch_size: Most rows in one call of the model; null is measured at start.
        optimize_for: "throughput" or "latency": what is chosen is chosen for that.
        batch_wait_timeout_s: Seconds a free replica waits for a batch to fill.
        max_queued_requests: Most rows waiting; null means the larger of 1,024 and what drains
            within `request_timeout_s`.
        request_timeout_s: Seconds within which a request is answered, 504 otherwise.
        batch_format: What `__call__` receives: "numpy" (dict of arrays) or "pandas".
        replica: "process" or "thread"; null means a process wherever the class can be imported.
        num_cpus: Cores of one replica, which set its math threads; null is chosen.
        num_gpus: Devices of one replica.
        ray_actor_options: `num_cpus` and `num_gpus` may be given here too; the rest is Ray's.
        autoscaling_config: Ray's; the embedded engine refuses it.
        user_config: Given to the model's `reconfigure(config)` after it was made.
        max_ongoing_requests: On Ray, requests that a replica holds at once; null means twice its
            `max_batch_size`, and 128 at least, so that batches can fill.
        max_replicas_per_node: On Ray, most replicas on one node.
        max_surge_percent: On Ray, new replicas that an update starts before it stops old ones, per
            cent of their number; null means 100, so that an update leaves no gap.
        graceful_shutdown_timeout_s: On Ray, seconds that a replica has to finish what it holds.
        graceful_shutdown_wait_loop_s: On Ray, seconds between two looks whether it has.
        health_check_period_s: On Ray, seconds between two health checks of a replica.
        health_check_timeout_s: On Ray, seconds that one may take.
        startup_timeout_s: Seconds within which a replica must load and answer its examples.
        allow_code: Whether a model that is served by its URI may run code when it is loaded, as
            pickles do.
        original: Whether to leave the variant alone that `salver optimize` chose.
        policy: Business rules applied right after the model, on every path.
        details: What every answer carries beyond the result, of `DETAILS`; a client may ask for
            others.
        examples: Golden examples: rows that a replica must answer before it is ready.
    """

    num_replicas: Any = None
    max_batch_size: Any = None
    optimize_for: str = "throughput"
    batch_wait_timeout_s: float = 0.0
    max_queued_requests: int | None = None
    request_timeout_s: float = 30.0
    batch_format: str = "numpy"
    replica: str | None = None
    num_cpus: float | None = None
    num_gpus: float = 0
    ray_actor_options: dict[str, Any] = field(default_factory=dict)
    autoscaling_config: dict[str, Any] | None = None
    user_config: dict[str, Any] | None = None
    max_ongoing_requests: int | None = None
    max_replicas_per_node: int | None = None
    max_surge_percent: int | None = None
    graceful_shutdown_timeout_s: float | None = None
    graceful_shutdown_wait_loop_s: float | None = None
    health_check_period_s: float | None = None
    health_check_timeout_s: float | None = None
    startup_timeout_s: float = 300.0
    allow_code: bool = False
    original: bool = False
    policy: Any = None
    details: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        _check(self)
        rest = dict(self.ray_actor_options)
        for name in _RESOURCES:
            given = rest.pop(name, None)
            own = getattr(self, name)
            if given is None:
                continue
            if own not in (None, 0, given):
                raise ConfigError(
                    f"{name} is {own!r} but ray_actor_options says {given!r}. Give it once."
                )
            object.__setattr__(self, name, given)
        object.__setattr__(self, "ray_actor_options", rest)
        _check(self)

    def replace(self, changes: Mapping[str, Any], where: str) -> DeploymentOptions:
        """A copy with `changes`.

        Raises:
            UnknownOption: For a name that is no option; names its neighbours.
            InvalidOption: For a value that the option cannot take.
        """
        nested = changes.get("ray_actor_options")
        if isinstance(nested, dict):
            # They stand for the options of their own, so they replace these too.
            changes = {**{name: nested[name] for name in _RESOURCES if name in nested}, **changes}
        return _replace(self, changes, where)


@dataclass(frozen=True)
class ServerSettings:
    """How the HTTP face behaves.

    Attributes:
        host: Address to bind; anything but loopback needs `api_key` or `insecure`.
        port: TCP port; 0 picks a free one.
        insecure: Allow an address that others can reach without an API key.
        api_key: Key that every route but the health checks asks for.
        allowed_hosts: Host names that requests may name; null means loopback names and `host`.
        max_body_bytes: Largest request body, in bytes.
        max_rows: Most rows in one request.
        drain_timeout_s: Seconds that requests in flight have to finish at shutdown.
        record: File in which answers are kept for `salver report`; null keeps none.
        record_inputs: Whether to keep the rows that were asked, too.
        max_records: Most rows that are kept; beyond, the oldest go.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    insecure: bool = False
    api_key: str | None = None
    allowed_hosts: Any = None
    max_body_bytes: int = 8 * 1024 * 1024
    max_rows: int = 1000
    drain_timeout_s: float = 30.0
    record: str | None = None
    record_inputs: bool = False
    max_records: int = 1_000_000

    def __post_init__(self) -> None:
        _check(self)
        if self.port > 65535:
            raise InvalidOption("port", self.port, "a whole number from 0 to 65535")

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        shown["api_key"] = "***" if self.api_key else None
        return f"ServerSettings({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    def replace(self, changes: Mapping[str, Any], where: str) -> ServerSettings:
        """A copy with `changes`; raises like `DeploymentOptions.replace`."""
        return _replace(self, changes, where)

    def refuse_exposure(self) -> None:
        """Lets nobody start a service by accident that strangers can ask.

        Raises:
            ConfigError: If other machines can reach it without a key.
        """
        if not self.is_loopback and not self.api_key and not self.insecure:
            raise ConfigError(
                f"host={self.host} lets other machines ask this service, and there is no API "
                "key. Set SALVER_API_KEY, or say --insecure if something else guards it."
            )

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name, such as 127.example.org, leads anywhere
            return False


def _replace(settings: Settings, changes: Mapping[str, Any], where: str) -> Settings:
    known = [f.name for f in fields(settings)]
    for name, value in changes.items():
        if name not in known:
            raise UnknownOption(name, value, known, where)
    tuples = {k: tuple(v) for k, v in changes.items() if k in _TUPLES and isinstance(v, list)}
    if "all" in tuples.get("details", ()):
        tuples["details"] = DETAILS
    return dataclasses.replace(settings, **{**changes, **tuples})


DEPLOYMENT_OPTIONS = tuple(f.name for f in fields(DeploymentOptions))
SERVER_OPTIONS = tuple(f.name for f in fields(ServerSettings))
