"""Puts what `salver calibrate` fitted among the checkpoints of deployments, at start.

It does not know how a calibration was fitted, nor what is done with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from salver.definition import Deployment
from salver.engine.loading import CALIBRATION, Resolved, version_of
from salver.errors import CheckpointError, ConfigError
from salver.models import choices
from salver.models.cache import CheckpointCache
from salver.models.checkpoint import Checkpoint
from salver.models.choices import Choice
from salver.models.variants import PLACE as VARIANT
from salver.policies import Promise, kept
from salver.settings import cache_dir
from salver.trust.fitted import Fitted


def with_calibrations(
    deployments: Iterable[Deployment], resolved: Mapping[str, Resolved]
) -> tuple[dict[str, Resolved], list[str]]:
    """The checkpoints of each deployment, with its calibration among them; and notes for people.

    A variant without a calibration of its own has that of the original, to which it is faithful.

    Args:
        deployments: With their options in force.
        resolved: Path, digest and source of each checkpoint, by deployment and place; variants
            among them.

    Raises:
        ConfigError: If a policy promises something that the held-out rows do not allow, or if there
            are none.
    """
    found, notes = dict(resolved), []
    for deployment in deployments:
        own = resolved.get(deployment.name)
        if own and CALIBRATION in own:
            continue  # another machine has found it
        choice = choice_for(deployment, own) if own else None
        fitted = None if choice is None else readable(choice)
        if choice is not None and fitted is None:
            notes.append(
                f"{deployment.name}: the cache has lost its calibration, or it cannot be read: run "
                "salver calibrate again"
            )
        _refuse_what_cannot_be_kept(deployment, fitted)
        if own is None or choice is None or fitted is None:
            continue
        path = CheckpointCache(cache_dir()).path_of(choice.digest)
        one = {"path": str(path), "digest": choice.digest, "source": f"calibration {choice.name}"}
        found[deployment.name] = {**own, CALIBRATION: one}
        notes.append(f"{deployment.name}: {choice.note}")
    return found, notes


def readable(choice: Choice) -> Fitted | None:
    """What a choice stands for; null if the cache has lost it, or it is damaged or too old."""
    path = CheckpointCache(cache_dir()).path_of(choice.digest)
    try:
        return Fitted.load(Checkpoint.open(path, choice.digest).path)
    except CheckpointError:
        return None


def _refuse_what_cannot_be_kept(deployment: Deployment, calibration: Fitted | None) -> None:
    """Each replica looks too, but would say it in a traceback."""
    if not any(isinstance(policy, Promise) for policy in deployment.policies):
        return
    held_out = None if calibration is None else calibration.held_out
    try:
        kept(deployment.policies, held_out)
    except ConfigError as error:
        raise type(error)(f"{deployment.name}: {error.message}") from error


def choice_for(deployment: Deployment, resolved: Resolved) -> Choice | None:
    """The calibration in force for a model; null if there is none."""
    original = {place: one for place, one in resolved.items() if place != VARIANT}
    digests = digests_of(original)
    for known in (resolved, original):
        choice = choices.read(choices.CALIBRATED, digests, model_version(deployment, known))
        if choice is not None:
            return choice
    return None


def model_version(deployment: Deployment, resolved: Resolved) -> str:
    """A digest of all that decides what the model itself says, whatever policies make of it."""
    given = {place: one for place, one in resolved.items() if place != CALIBRATION}
    return version_of(deployment, given, with_policies=False)


def digests_of(resolved: Resolved) -> list[str]:
    """Digests of the model's own checkpoints."""
    attached: tuple[Any, ...] = (VARIANT, CALIBRATION)
    return [one["digest"] for place, one in resolved.items() if place not in attached]
