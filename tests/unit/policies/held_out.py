"""Held-out rows of a model whose confidence is what it says."""

from __future__ import annotations

import numpy as np

from salver.policies import HeldOut, Scored

CLASSES = ("a", "b", "c")


def held_out(n: int, accuracy: float | None = None, seed: int = 0) -> HeldOut:
    """n rows; right as often as their confidence says, or with `accuracy` at random."""
    random = np.random.default_rng(seed)
    sure = 1 - 0.6 * random.random(n) ** 2
    best = random.integers(0, 3, n)
    probabilities = np.repeat((1 - sure)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(n), best] = sure
    right = random.random(n) < (sure if accuracy is None else accuracy)
    labels = np.where(right, best, (best + 1) % 3)
    scored = Scored(
        {"prediction": [CLASSES[i] for i in best]},
        probabilities,
        CLASSES,
        np.zeros(n, dtype=bool),
        sure,
        random.exponential(0.4, n),
    )
    return HeldOut(scored, right, labels)
