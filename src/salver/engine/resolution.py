"""Turns checkpoint references into folders and digests, once per start, in a child process.

MLflow is heavy to import and may hang; neither may happen to the process that serves. This
module does not know MLflow, only the command that does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from salver.definition import Deployment
from salver.engine.loading import ATTACHED, Resolved, references
from salver.errors import CheckpointError, TrackingError, class_of, error_of
from salver.models.cache import CheckpointCache
from salver.models.reference import (
    CheckpointReference,
    UriCheckpoint,
    checkpoint,
    split_digest,
)
from salver.settings import cache_dir, child_environment

log = logging.getLogger("salver.resolution")

RESOLVE_TIMEOUT_S = 600  # a large checkpoint may have to be downloaded


async def resolve_all(
    deployments: Iterable[Deployment],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Path, digest and source of every checkpoint, by deployment and place.

    Raises:
        TrackingError: If the tracking server has no such checkpoint or does not answer.
        CheckpointError: If what it has is not what its manifest says.
    """
    wanted = [
        (deployment.name, place, reference)
        for deployment in deployments
        for place, reference in references(deployment).items()
    ]
    unique = {ref: cached(ref) or {} for _, _, ref in wanted}
    if unknown := [reference for reference, answer in unique.items() if not answer]:
        for reference, answer in zip(unknown, await _ask(unknown), strict=True):
            unique[reference] = checked(answer)
            if answer.get("stale"):
                log.warning(
                    "%r: the tracking server does not answer; using the cached copy.", reference
                )
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, place, reference in wanted:
        found.setdefault(name, {})[place] = unique[reference]
    return found


async def on_this_machine(
    deployments: Iterable[Deployment], resolved: Mapping[str, Resolved]
) -> dict[str, dict[str, dict[str, Any]]]:
    """The same checkpoints here, where another machine has resolved them.

    A folder that is not here is fetched again from its source, and must have the same digest.

    Raises:
        TrackingError: If the tracking server does not answer.
        CheckpointError: If a checkpoint is another one by now, or is in no place to fetch it from.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for deployment in deployments:
        for place, reference in references(deployment).items():
            given = dict(resolved[deployment.name][place])
            if not os.path.isdir(given["path"]):  # noqa: ASYNC240 - one look at the disk
                given = await _fetched(given, reference)
            found.setdefault(deployment.name, {})[place] = given
        for place in ATTACHED:
            if (attached := resolved.get(deployment.name, {}).get(place)) is not None:
                found[deployment.name][place] = dict(attached)
    return found


async def _fetched(given: Mapping[str, Any], reference: CheckpointReference) -> dict[str, Any]:
    source = given.get("source") or ""
    if not source.startswith(("runs:", "models:")):
        raise CheckpointError(
            f"The checkpoint {given['path']} is not on this machine, and no tracking server has "
            "it. Log it to MLflow, or put it where all nodes find it."
        )
    (answer,) = await _ask([checkpoint(source, tracking_uri=reference.tracking_uri)])
    here = checked(answer)
    if here["digest"] != given["digest"]:
        raise CheckpointError(
            f"{source} has the digest {here['digest'][:12]} on this machine, and "
            f"{given['digest'][:12]} where the service was started. Start the service again."
        )
    return here


async def _ask(wanted: list[CheckpointReference]) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *resolver(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=child_environment({}),
    )
    question = json.dumps([reference.to_json() for reference in wanted]).encode()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            out, _ = await process.communicate(question)
    except TimeoutError:
        raise TrackingError(
            f"Resolving {wanted!r} took more than {RESOLVE_TIMEOUT_S} s. Check the tracking server."
        ) from None
    finally:
        if process.returncode is None:  # too late, or nobody waits for it any more
            process.kill()
            await process.wait()
    return answers_of(out, process.returncode, wanted)


def resolver() -> tuple[str, ...]:
    """The command that finds out what references mean; see `salver.models.resolve`."""
    return sys.executable, "-m", "salver.models.resolve"


def answers_of(
    out: bytes, exit_code: int | None, wanted: list[CheckpointReference]
) -> list[dict[str, Any]]:
    """What the resolver has written.

    Raises:
        TrackingError: If that is nothing.
    """
    try:
        answers: list[dict[str, Any]] = json.loads(out)
    except ValueError:
        raise TrackingError(
            f"Resolving {wanted!r} ended with exit code {exit_code} and no answer. Its own "
            "output above says why."
        ) from None
    return answers


def cached(reference: CheckpointReference) -> dict[str, Any] | None:
    """The answer for a reference with a digest that is in the cache; whoever opens it verifies it."""
    if not isinstance(reference, UriCheckpoint) or reference.digest is None:
        return None
    digest = reference.digest
    path = CheckpointCache(cache_dir()).path_of(digest)
    source = split_digest(reference.uri)[0]
    return {"path": str(path), "digest": digest, "source": source} if path.is_dir() else None


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer of the resolver; raises the error that it may be."""
    if "error" not in answer:
        return answer
    code, message = answer["error"]["code"], answer["error"]["message"]
    raise error_of(code, message) if class_of(code) else TrackingError(message)
