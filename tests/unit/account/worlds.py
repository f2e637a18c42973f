"""What the tests of this folder share: rows of a known distribution, as a service answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from salver import Novelty, Precision
from salver.account.about import About
from salver.account.rows import Rows, numbers, objects
from salver.policies import HeldOut, Policy, Scored, kept

CLASSES = ("cooking", "sailing", "chess")
POLICIES: tuple[Policy, ...] = (
    Novelty(0.02, otherwise="unknown"),
    Precision(0.9, otherwise="unsure"),
)


@dataclass(frozen=True)
class World:
    """Rows that a model meets.

    Attributes:
        shares: Of the true classes.
        hardness: Mean of 1 - confidence, roughly.
        overconfidence: By how much the model is less often right than it believes.
        novelty: Factor of all novelty scores; 1 is the world of the held-out rows.
        length: Mean characters of text.
    """

    shares: Sequence[float] = (0.5, 0.3, 0.2)
    hardness: float = 0.12
    overconfidence: float = 0.0
    novelty: float = 1.0
    length: float = 80.0

    def changed(self, **changes: Any) -> World:
        """Another world."""
        return replace(self, **changes)

    def drawn(self, n: int, random: np.random.Generator) -> tuple[HeldOut, np.ndarray[Any, Any]]:
        """What the model says to n rows, and their lengths."""
        sure = 1 - random.beta(1, 1 / self.hardness - 1, n) * (1 - 1 / 3)
        best = random.choice(3, n, p=self.shares)
        probabilities = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1)
        probabilities[np.arange(n), best] = sure
        right = random.random(n) < sure - self.overconfidence
        labels = np.where(right, best, (best + random.integers(1, 3, n)) % 3)
        scored = Scored(
            {"prediction": [CLASSES[i] for i in best]},
            probabilities,
            CLASSES,
            np.zeros(n, dtype=bool),
            sure,
            random.gamma(9, 1 / 15, n) * self.novelty,
        )
        return HeldOut(scored, right, labels), random.gamma(4, self.length / 4, n).round()


def about(held_out: HeldOut, lengths: Any, policies: Sequence[Policy] = POLICIES) -> About:
    """What is promised on held-out rows."""
    return About.of(policies, held_out, lengths)


def answered(
    asked: HeldOut,
    lengths: Any,
    held_out: HeldOut,
    policies: Sequence[Policy] = POLICIES,
    labelled: float = 1.0,
) -> Rows:
    """The same rows as a service with these policies answers them; the first share is labelled."""
    n, scored = len(asked), asked.scored
    withheld_by = objects([None] * n)
    for policy, rule in zip(policies, kept(policies, held_out), strict=True):
        before, scored = scored.abstained, rule(scored)
        withheld_by[scored.abstained & ~before] = type(policy).__name__
    assert asked.labels is not None
    truth = [
        CLASSES[i] if at < labelled * n else None for at, i in enumerate(asked.labels.tolist())
    ]
    sets = scored.columns.get("prediction_set")
    return Rows(
        at=np.arange(n, dtype=np.float64),
        prediction=objects(scored.columns["prediction"]),
        own=objects(asked.scored.columns["prediction"]),
        confidence=asked.scored.confidence,
        novelty=asked.scored.novelty,
        withheld_by=withheld_by,
        failed=np.zeros(n, dtype=bool),
        length=np.asarray(lengths, dtype=np.float64),
        label=objects(truth),
        covered=numbers([None] * n)
        if sets is None
        else numbers([None if t is None else t in s for t, s in zip(truth, sets, strict=True)]),
    )
