"""Options: their names, defaults and bounds, and the layers that override them.

This is the only module that reads the environment. Options come, in order of growing strength,
from the definition, a YAML file, `SALVER_*` variables and `--set`. It does not know what an
option does.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from salver.errors import ConfigError, InvalidOption, UnknownOption

PREFIX = "SALVER_"
RESERVED = {"CACHE_DIR", "TRACKING_URI", "CONFIG"}  # with this prefix, but no option of a service

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
    "startup_timeout_s": _number(0, open_low=True),
    "policy": ("a policy", lambda _value: True),
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
}


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
        startup_timeout_s: Seconds within which a replica must load and answer its examples.
        policy: Business rules applied right after the model, on every path.
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
    startup_timeout_s: float = 300.0
    policy: Any = None
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
    """

    host: str = "127.0.0.1"
    port: int = 8000
    insecure: bool = False
    api_key: str | None = None
    allowed_hosts: Any = None
    max_body_bytes: int = 8 * 1024 * 1024
    max_rows: int = 1000
    drain_timeout_s: float = 30.0

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
    tuples = {k: tuple(v) for k, v in changes.items() if k == "examples" and isinstance(v, list)}
    return dataclasses.replace(settings, **{**changes, **tuples})


DEPLOYMENT_OPTIONS = tuple(f.name for f in fields(DeploymentOptions))
SERVER_OPTIONS = tuple(f.name for f in fields(ServerSettings))


@dataclass
class Overrides:
    """Options given outside the code, by the layer that gave them last.

    Attributes:
        server: Options of the HTTP face.
        deployments: Options by deployment; within a layer, an option of one deployment wins over
            the same option of all.
    """

    server: dict[str, Any] = field(default_factory=dict)
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)

    def options_for(self, name: str, options: DeploymentOptions) -> DeploymentOptions:
        """`options` of the deployment `name` with what was overridden."""
        return options.replace(self.deployments.get(name, {}), f"the options of {name}")


def gather_overrides(
    deployments: Iterable[str],
    config: Path | None = None,
    sets: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Overrides:
    """Reads the YAML file, the environment and `--set`, each stronger than the one before.

    Args:
        deployments: Names of the deployments of the service.
        config: YAML file; null reads the one that `SALVER_CONFIG` names, if any.
        sets: `name=value` or `Deployment.name=value`; values are YAML scalars.
        environment: For tests; the process's own by default.

    Raises:
        UnknownOption: For a name that is no option; names its neighbours.
        ConfigError: For a file that cannot be read or an argument without `=`.
    """
    env = os.environ if environment is None else environment
    names = list(deployments)
    found = Overrides(deployments={name: {} for name in names})
    if config is None and env.get(PREFIX + "CONFIG"):
        config = Path(env[PREFIX + "CONFIG"])
    if config is not None:
        _apply(found, _from_yaml(config, names), str(config))
    _apply(found, _from_environment(env, names), "the environment")
    _apply(found, [_from_argument(s) for s in sets], "--set")
    return found


Given = tuple[str | None, str, Any]  # deployment or null for all, option, value


def _apply(found: Overrides, given: Iterable[Given], where: str) -> None:
    # An option of one deployment wins over the same option of all in the same layer.
    for deployment, name, value in sorted(given, key=lambda g: g[0] is not None):
        if deployment is None and name in SERVER_OPTIONS:
            found.server[name] = value
        elif deployment is None and name in DEPLOYMENT_OPTIONS:
            for options in found.deployments.values():
                options[name] = value
        elif deployment is None:
            known = [*SERVER_OPTIONS, *DEPLOYMENT_OPTIONS]
            raise UnknownOption(name, value, known, where)
        elif deployment not in found.deployments:
            known = [f"{one}.{name}" for one in found.deployments]
            raise UnknownOption(f"{deployment}.{name}", value, known, where)
        elif name not in DEPLOYMENT_OPTIONS:
            raise UnknownOption(name, value, DEPLOYMENT_OPTIONS, f"{where} for {deployment}")
        else:
            found.deployments[deployment][name] = value


def _from_yaml(path: Path, deployments: list[str]) -> list[Given]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The configuration {path} cannot be read: {error.strerror}. Check the path."
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date like 2024-13-45
        raise ConfigError(f"The configuration {path} is not valid YAML: {error}") from error
    if content is None:
        return []
    if not isinstance(content, dict):
        raise ConfigError(f"The configuration {path} must be a mapping of option names to values.")
    given: list[Given] = []
    for name, value in content.items():
        known = [*SERVER_OPTIONS, *DEPLOYMENT_OPTIONS]
        if name in deployments and isinstance(value, dict | None):
            given += [(name, str(option), v) for option, v in (value or {}).items()]
        elif name in deployments and name not in known:
            raise ConfigError(
                f"{path}: {name} was given {value!r}; it takes a mapping of option names to values."
            )
        else:
            if name not in known:
                raise UnknownOption(str(name), value, [*known, *deployments], str(path))
            given.append((None, name, value))
    return given


def _from_environment(env: Mapping[str, str], deployments: list[str]) -> list[Given]:
    by_upper = {name.upper(): name for name in deployments}
    given: list[Given] = []
    for key, text in env.items():
        name = key.removeprefix(PREFIX)
        if name == key or name in RESERVED:
            continue
        owner, _, option = name.rpartition("__")
        deployment = by_upper.get(owner, owner) if owner else None
        given.append((deployment, option.lower(), _value(option.lower(), text)))
    return given


def _from_argument(argument: str) -> Given:
    name, equals, text = argument.partition("=")
    if not equals or not name:
        raise ConfigError(
            f"--set was given {argument!r}; it takes NAME=VALUE or DEPLOYMENT.NAME=VALUE, "
            "for example --set num_replicas=2."
        )
    deployment, _, option = name.rpartition(".")
    return (deployment or None, option, _value(option, text))


def _value(name: str, text: str) -> Any:
    if name in ("api_key", "host"):
        return text  # a key made of digits is still a text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date like 2024-13-45
        return text


def cache_dir() -> Path:
    """Where checkpoints are kept: `SALVER_CACHE_DIR`, or `~/.cache/salver`."""
    given = os.environ.get(PREFIX + "CACHE_DIR")
    return Path(given) if given else Path.home() / ".cache" / "salver"


def tracking_uri() -> str:
    """Where MLflow's store is: `SALVER_TRACKING_URI`, `MLFLOW_TRACKING_URI` or `mlflow.db` here."""
    return (
        os.environ.get(PREFIX + "TRACKING_URI")
        or os.environ.get("MLFLOW_TRACKING_URI")
        or "sqlite:///mlflow.db"
    )


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process: this one's, with `changes`."""
    return {**os.environ, **changes}


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> list[str] | None:
    """GPU ids named by `CUDA_VISIBLE_DEVICES`; null when it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if given is None else [d for d in given.split(",") if d.strip()]
