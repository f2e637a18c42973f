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
from salver.engine.loading import Resolved, references
from salver.errors import CheckpointError, TrackingError, class_of, error_of
from salver.models.reference import CheckpointReference, checkpoint
from salver.settings import child_environment

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
    unique: dict[CheckpointReference, dict[str, Any]] = {ref: {} for _, _, ref in wanted}
    if unique:
        for reference, answer in zip(unique, await _ask(list(unique)), strict=True):
            unique[reference] = _checked(answer)
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
    return found


async def _fetched(given: Mapping[str, Any], reference: CheckpointReference) -> dict[str, Any]:
    source = given.get("source") or ""
    if not source.startswith(("runs:", "models:")):
        raise CheckpointError(
            f"The checkpoint {given['path']} is not on this machine, and no tracking server has "
            "it. Log it to MLflow, or put it where all nodes find it."
        )
    (answer,) = await _ask([checkpoint(source, tracking_uri=reference.tracking_uri)])
    here = _checked(answer)
    if here["digest"] != given["digest"]:
        raise CheckpointError(
            f"{source} has the digest {here['digest'][:12]} on this machine, and "
            f"{given['digest'][:12]} where the service was started. Start the service again."
        )
    return here


async def _ask(wanted: list[CheckpointReference]) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "salver.models.resolve",
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
    try:
        answers: list[dict[str, Any]] = json.loads(out)
    except ValueError:
        raise TrackingError(
            f"Resolving {wanted!r} ended with exit code {process.returncode} and no answer. Its own "
            "output above says why."
        ) from None
    return answers


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" not in answer:
        return answer
    code, message = answer["error"]["code"], answer["error"]["message"]
    raise error_of(code, message) if class_of(code) else TrackingError(message)
