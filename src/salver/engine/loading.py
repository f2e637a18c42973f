"""Loads one deployment: from a reference and resolved checkpoints to a pipeline that answers.

The same steps run in a child process, in a thread and in a bare parity check. Loading does not
know where checkpoints come from, only the folders and digests they were resolved to.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salver.definition import Deployment
from salver.errors import ConfigError, ReplicaStartFailed, TargetNotFound, nearest
from salver.models.checkpoint import Checkpoint
from salver.models.reference import CheckpointReference
from salver.pipeline import Pipeline
from salver.service import Service
from salver.types import Batch, Row

TOKENIZER = "tokenizer.json"

Resolved = Mapping[str, Mapping[str, Any]]  # place of the argument -> path, digest, source


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deployment that has answered its golden examples.

    Attributes:
        pipeline: Ready to run.
        examples: `{"input": row, "output": result}` of each golden example, as executed.
        tokenizer_file: The tokenizer that cuts the model's texts, if there is one.
    """

    pipeline: Pipeline
    examples: list[dict[str, Any]]
    tokenizer_file: str | None = None


_is_loading = ContextVar("is_loading", default=False)


def is_loading() -> bool:
    """True while the module of a target is being imported by `load_service`."""
    return _is_loading.get()


def load_service(target: str) -> Service:
    """The service at `module:attribute` or `path/to/file.py:attribute`.

    Raises:
        TargetNotFound: If there is no such module, file or attribute, or it is no service.
    """
    module_name, colon, attribute = target.rpartition(":")
    if not colon or not module_name or not attribute:
        raise TargetNotFound(
            f"The target was given as {target!r}; it takes MODULE:NAME, for example service:service."
        )
    token = _is_loading.set(True)
    try:
        module = _import(module_name, target)
    finally:
        _is_loading.reset(token)
    found = getattr(module, attribute, None)
    if found is None:
        raise TargetNotFound(
            f"{module_name} has no {attribute!r}. {nearest(attribute, _services(module))}"
        )
    if isinstance(found, Deployment):
        return Service(found)
    if not isinstance(found, Service):
        raise TargetNotFound(
            f"{target} is a {type(found).__name__}; wanted a salver.Service or a deployment made "
            "by bind(...)."
        )
    return found


def _import(name: str, target: str) -> Any:
    if name.endswith(".py"):
        return _import_file(Path(name))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # the module exists, something it imports does not
        raise TargetNotFound(
            f"There is no module {error.name!r} for the target {target!r}. Run from the folder that "
            "holds it, or install its package."
        ) from None


def _import_file(path: Path) -> Any:
    # The name is made of the path, so that every process of a service agrees on it.
    name = f"salver_target_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TargetNotFound(f"There is no file {path}. Check the path of the target.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # or the next attempt would find half a module
        raise
    return module


def _services(module: Any) -> list[str]:
    return [n for n, v in vars(module).items() if isinstance(v, Service | Deployment)]


def references(deployment: Deployment) -> dict[str, CheckpointReference]:
    """Checkpoint references among the arguments, by their place ("0", "1", ... or a keyword)."""
    places = {str(i): a for i, a in enumerate(deployment.args)} | dict(deployment.kwargs)
    return {p: a for p, a in places.items() if isinstance(a, CheckpointReference)}


def version_of(deployment: Deployment, resolved: Resolved) -> str:
    """A digest of all that decides an answer: code, arguments, checkpoints and policies.

    Arguments that are no plain values count by their type only.
    """
    target = deployment.target
    try:
        source = Path(inspect.getfile(target)).read_bytes()
    except (OSError, TypeError):
        source = b""  # defined in a notebook
    places = {str(i): a for i, a in enumerate(deployment.args)} | dict(deployment.kwargs)
    arguments = {
        place: resolved[place]["digest"] if place in resolved else _stable(argument)
        for place, argument in places.items()
    }
    described = {
        "target": f"{target.__module__}:{target.__qualname__}",
        "source": hashlib.sha256(source).hexdigest(),
        "arguments": arguments,
        "policies": [repr(p) for p in deployment.policies],
        "batch_format": deployment.options.batch_format,
    }
    if deployment.options.user_config is not None:
        described["user_config"] = _stable(deployment.options.user_config)
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stable(argument: Any) -> str:
    try:
        return json.dumps(argument, sort_keys=True)
    except (TypeError, ValueError):
        kind = type(argument)
        return f"{kind.__module__}:{kind.__qualname__}"


def load(deployment: Deployment, resolved: Resolved, log: Callable[[str], None]) -> Loaded:
    """Builds the model and asks it its golden examples.

    Raises:
        CheckpointError: If a checkpoint is not what its digest says.
        ReplicaStartFailed: If a golden example fails or is answered differently.
        Exception: Whatever the model's constructor raises.
    """
    checkpoints = {
        place: Checkpoint.open(Path(r["path"]), digest=r["digest"], source=r.get("source"))
        for place, r in resolved.items()
    }
    model = instantiate(deployment, checkpoints)
    options = deployment.options
    pipeline = Pipeline(model, deployment.policies, options.batch_format, log)
    examples = _golden(deployment, pipeline, checkpoints)
    return Loaded(pipeline, examples, _tokenizer_file(model, checkpoints))


def instantiate(deployment: Deployment, checkpoints: Mapping[str, Checkpoint]) -> Any:
    """The user's class with its arguments, references replaced by checkpoints, configured.

    Raises:
        ConfigError: If there is a `user_config`, but no method that takes it.
    """
    args = [checkpoints.get(str(i), a) for i, a in enumerate(deployment.args)]
    kwargs = {k: checkpoints.get(k, a) for k, a in deployment.kwargs.items()}
    model = deployment.target(*args, **kwargs)
    config = deployment.options.user_config
    if config is None:
        return model
    if not callable(getattr(model, "reconfigure", None)):
        raise ConfigError(
            f"{deployment.name} was given user_config={config!r}, but has no method "
            "reconfigure(self, config) that would take it. Write one, or remove user_config."
        )
    model.reconfigure(config)
    return model


def _tokenizer_file(model: Any, checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """The model's `tokenizer_file_`, or else the `tokenizer.json` of a checkpoint."""
    given = getattr(model, "tokenizer_file_", None)
    if given is None:
        listed = (c.file(TOKENIZER) for c in checkpoints.values() if TOKENIZER in c.files)
        given = next(listed, None)
    elif not isinstance(given, str | os.PathLike):
        raise ReplicaStartFailed(
            f"{type(model).__name__}.tokenizer_file_ is {given!r}; it takes the path of a "
            "tokenizer.json."
        )
    return None if given is None else os.path.abspath(given)


def check_examples(deployment: Deployment) -> None:
    """Checks the golden examples of the options before anything is loaded.

    Raises:
        ConfigError: For an example that is no row, or does not fit the input model.
    """
    _checked(deployment, [row for row, _ in map(_example, deployment.options.examples)])


def _golden(
    deployment: Deployment, pipeline: Pipeline, checkpoints: Mapping[str, Checkpoint]
) -> list[dict[str, Any]]:
    given = list(deployment.options.examples)
    for checkpoint in checkpoints.values():
        given += checkpoint.metadata.get("examples", [])
    examples = [_example(e) for e in given]
    if not examples:
        return []
    rows = [row for row, _ in examples]
    batch = _checked(deployment, rows)
    said = pipeline.run_without_policies(batch)
    for i, (row, expected) in enumerate(examples):
        outcome = said[i]
        if outcome.failure is not None:
            raise ReplicaStartFailed(
                f"{deployment.name} failed on its golden example {row!r}: "
                f"{outcome.failure.detail or outcome.failure.message}"
            )
        if expected is not None and outcome["prediction"] != expected:
            raise ReplicaStartFailed(
                f"{deployment.name} answered {outcome['prediction']!r} to its golden example "
                f"{row!r}; recorded was {expected!r}. The weights or the preprocessing are not "
                "those that were recorded."
            )
    decided = pipeline.run(batch)
    return [{"input": r, "output": decided[i].as_json()} for i, r in enumerate(rows)]


def _example(given: Any) -> tuple[dict[str, Any], Any]:
    row, prediction = given, None
    if isinstance(given, Mapping) and "input" in given and set(given) <= {"input", "prediction"}:
        row, prediction = given["input"], given.get("prediction")
    if isinstance(row, Mapping):
        return dict(row), prediction
    raise ConfigError(
        f"A golden example was given as {given!r}; it takes a row, or "
        "{'input': row, 'prediction': label}."
    )


def _checked(deployment: Deployment, rows: Sequence[Row]) -> Batch:
    checked = deployment.schema.check_rows(rows)
    for i, failure in checked.rejected.items():
        raise ConfigError(
            f"The golden example {rows[i]!r} of {deployment.name} does not fit its input model: "
            f"{failure.message}"
        )
    return checked.batch
