"""The layers that override options, and whatever else comes from the environment.

This is the only module that reads the environment. Options come, in order of growing strength,
from the definition, a YAML file, `SALVER_*` variables and `--set`. It does not know what an
option does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from salver.errors import ConfigError, UnknownOption
from salver.options import DEPLOYMENT_OPTIONS, SERVER_OPTIONS, DeploymentOptions

PREFIX = "SALVER_"
RESERVED = {"CACHE_DIR", "TRACKING_URI", "CONFIG"}  # with this prefix, but no option of a service


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


def api_key() -> str | None:
    """The key that a service asks for: `SALVER_API_KEY`."""
    return os.environ.get(PREFIX + "API_KEY")


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


def default_environment(values: Mapping[str, str]) -> None:
    """Sets variables that are not set yet, for a library that reads them when it is imported."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> list[str] | None:
    """GPU ids named by `CUDA_VISIBLE_DEVICES`; null when it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if given is None else [d for d in given.split(",") if d.strip()]


def math_threads() -> int | None:
    """Threads that this process may use for arithmetic, as its replica was given; null if open."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else None
