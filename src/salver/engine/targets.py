"""What a target names: a service in a module or a file, or a model by its URI or path.

A target is a text, for it is passed on to other processes. Whichever it is, loading it makes a
`Service` and loads no model. It does not know who runs the service.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from salver.definition import Deployment
from salver.engine.resolution import RESOLVE_TIMEOUT_S, answers_of, cached, checked, resolver
from salver.errors import TargetNotFound, TrackingError, nearest
from salver.models.checkpoint import Checkpoint
from salver.models.reference import CheckpointReference, checkpoint, split_digest
from salver.models.served import deployment_for
from salver.service import Service
from salver.settings import child_environment

log = logging.getLogger("salver.resolution")

_is_loading = ContextVar("is_loading", default=False)


def is_loading() -> bool:
    """True while the module of a target is being imported by `load_service`."""
    return _is_loading.get()


def is_model(target: str) -> bool:
    """Whether a target names a model rather than `MODULE:NAME`."""
    if target.startswith(("models:", "runs:", "file:")) or split_digest(target)[1]:
        return True
    return not target.endswith(".py") and os.path.exists(target)


def pin(target: str) -> str:
    """The target by which all processes of a service find the same.

    That of a model gets its digest, and instead of an alias the version that it names now; it is
    fetched for that. Others stay as they are.

    Raises:
        TrackingError: If the registry has no such model, or does not answer.
        CheckpointError: If it is no model that Salver can serve.
    """
    if not is_model(target) or split_digest(target)[1]:
        return target
    found = _resolved(checkpoint(target))
    if found.get("stale"):
        log.warning("%s: the tracking server does not answer; using the cached copy.", target)
    return f"{found['source']}@sha256:{found['digest']}"


def pinned_service(target: str) -> tuple[str, Service]:
    """What `pin` makes of a target, and the service that it names; raises as `load_service`."""
    target = pin(target)
    return target, load_service(target)


def _resolved(reference: CheckpointReference) -> dict[str, Any]:
    """Path, digest and source; asked in a process of its own, which may import what it needs."""
    known = cached(reference)
    if known is not None:
        return known
    question = json.dumps([reference.to_json()]).encode()
    try:
        ended = subprocess.run(
            resolver(),
            input=question,
            stdout=subprocess.PIPE,
            timeout=RESOLVE_TIMEOUT_S,
            env=child_environment({}),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TrackingError(
            f"Resolving {reference!r} took more than {RESOLVE_TIMEOUT_S} s. Check the registry."
        ) from None
    (answer,) = answers_of(ended.stdout, ended.returncode, [reference])
    return checked(answer)


def load_service(target: str) -> Service:
    """The service at `module:attribute` or `path/to/file.py:attribute`, or of a model.

    Raises:
        TargetNotFound: If there is no such module, file or attribute, or it is no service.
    """
    if is_model(target):
        return _service_of_model(target)
    module_name, colon, attribute = target.rpartition(":")
    if not colon or not module_name or not attribute:
        raise TargetNotFound(
            f"The target was given as {target!r}; it takes MODULE:NAME, for example service:service, "
            "or a model: models:/name@alias, runs:/id/name, or the path of one."
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


def _service_of_model(target: str) -> Service:
    found = _resolved(checkpoint(target))
    adopted = Checkpoint.look(Path(found["path"]), found["source"])
    return Service(deployment_for(adopted, f"{found['source']}@sha256:{found['digest']}"))


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
