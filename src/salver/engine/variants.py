"""Puts the variants that `salver optimize` chose among the checkpoints of deployments, at start.

It does not know how a variant was made, nor what it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from salver.definition import Deployment
from salver.engine.loading import Resolved, version_of
from salver.errors import CheckpointError
from salver.models import choices
from salver.models.cache import CheckpointCache
from salver.models.checkpoint import Checkpoint
from salver.models.variants import PLACE, Variant
from salver.settings import cache_dir


@dataclass(frozen=True, slots=True)
class Used:
    """What was found for one deployment.

    Attributes:
        name: Of the variant; null if the original is used.
        note: What that means or why, for anybody.
        reason: What went wrong, for whoever runs the service.
    """

    name: str | None
    note: str
    reason: str = ""

    def described(self, deployment: str) -> str:
        """One line for whoever runs the service."""
        return f"{deployment}: {self.note}" + (f" ({self.reason})" if self.reason else "")

    def as_json(self) -> dict[str, str | None]:
        """For `/-/readyz`."""
        return {"variant": self.name, "note": self.note}


def with_variants(
    deployments: Iterable[Deployment], resolved: Mapping[str, Resolved]
) -> tuple[dict[str, Resolved], dict[str, Used]]:
    """The checkpoints of each deployment, with its variant among them; and what was found.

    Args:
        deployments: With their options in force; those with `original` get none.
        resolved: Path, digest and source of each checkpoint, by deployment and place.
    """
    found, used = dict(resolved), {}
    for deployment in deployments:
        own = resolved.get(deployment.name)
        if not own or deployment.options.original:
            continue
        try:
            variant, said = _variant_of(deployment, own)
        except CheckpointError as error:
            note = "the original runs, for what was optimised cannot be read"
            variant, said = None, Used(None, note, error.message)
        if variant is not None:
            found[deployment.name] = {**own, PLACE: variant}
        if said is not None:
            used[deployment.name] = said
    return found, used


def _variant_of(
    deployment: Deployment, resolved: Resolved
) -> tuple[dict[str, Any] | None, Used | None]:
    digests = [one["digest"] for one in resolved.values()]
    choice = choices.read(choices.OPTIMIZED, digests, version_of(deployment, resolved))
    if choice is None:
        if not choices.of_other_versions(choices.OPTIMIZED, digests, deployment.name):
            return None, None
        note = (
            "the original runs, for its variant was judged with other code, arguments or policies: "
            "run salver optimize again"
        )
        return None, Used(None, note)
    if choice.name is None:
        return None, None
    path = CheckpointCache(cache_dir()).path_of(choice.digest)
    if not path.is_dir():
        note = f"the original runs, for the cache has lost {choice.name}: run salver optimize again"
        return None, Used(None, note)
    if what := Variant.of(Checkpoint.look(path)).changed():
        note = (
            "the original runs, for its variant was made from other code: run salver optimize again"
        )
        return None, Used(None, note, what)
    variant = {"path": str(path), "digest": choice.digest, "source": f"variant {choice.name}"}
    return variant, Used(choice.name, choice.note)
