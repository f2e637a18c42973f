"""What a model said to rows, in numbers that can be compared.

It does not know with what they are compared, nor how far apart is too far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salver.types import ClassProbabilities, Outcomes

Array = np.ndarray[Any, Any]
FAILED = -1  # instead of the position of a class
UNKNOWN = -2  # a true class that the model does not have


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said to n rows.

    Attributes:
        numbers: float64 of shape (n, k): probabilities of classes, if it gives any, and then all
            other numbers of a row; null if it gives none. NaN where a row has fewer than another.
        probabilities: How many of the k are probabilities.
        classes: Names of the classes; empty if they have none.
        decided: What clients get, without the numbers, one text per row.
        failed: bool of shape (n,): rows without a result.
    """

    numbers: Array | None
    probabilities: int
    classes: tuple[str, ...]
    decided: tuple[str, ...]
    failed: Array

    def __len__(self) -> int:
        return len(self.decided)

    @property
    def given(self) -> Array:
        """The probabilities alone, 0 where there are none; float64 of shape (n, probabilities)."""
        numbers = np.empty((len(self), 0)) if self.numbers is None else self.numbers
        return np.nan_to_num(numbers[:, : self.probabilities])

    @property
    def labels(self) -> Array:
        """Positions of classes, or all that was decided where there are none; shape (n,)."""
        if not self.probabilities:
            return np.array(self.decided)
        return np.asarray(np.where(self.failed, FAILED, self.given.argmax(axis=1)))

    @property
    def margins(self) -> Array:
        """Difference of the two largest probabilities; 1 where there are no such; shape (n,)."""
        if self.probabilities < 2:
            return np.ones(len(self))
        two = np.sort(self.given, axis=1)[:, -2:]
        return np.asarray(two[:, 1] - two[:, 0])

    @property
    def scale(self) -> Array:
        """What a difference of each number is measured in; shape (k,).

        Probabilities as they are, and so what stands beside them and is never outside 0 to 1, such
        as a confidence. All else by the standard deviation of its column.
        """
        assert self.numbers is not None
        size = np.nan_to_num(np.abs(self.numbers)).max(axis=0, initial=0.0)
        fallback = np.maximum(size, 1e-12)
        # NumPy warns of a column that is NaN alone.
        whole = np.where(np.isnan(self.numbers).all(axis=0), 0.0, self.numbers)
        spread = np.nan_to_num(np.nanstd(whole, axis=0))
        scale = np.where(spread > 1e-9 * fallback, spread, fallback)
        if self.probabilities:
            is_share = (np.nan_to_num(self.numbers).min(axis=0, initial=0.0) >= 0) & (size <= 1)
            is_share[: self.probabilities] = True
            scale = np.where(is_share, 1.0, scale)
        return np.asarray(scale)


def answers_of(parts: Sequence[Outcomes], order: Sequence[int]) -> Answers:
    """The outcomes of batches, put back in the order of the rows.

    Args:
        parts: Outcomes of one batch each.
        order: Positions of their rows, one batch after the other.
    """
    n = len(order)
    shares: list[list[float]] = [[] for _ in range(n)]
    others: list[list[float]] = [[] for _ in range(n)]
    decided, failed = [""] * n, np.zeros(n, dtype=bool)
    classes: tuple[str, ...] = ()
    at = iter(order)
    for outcomes in parts:
        column = outcomes.columns.get("probabilities")
        if isinstance(column, ClassProbabilities):
            classes = column.classes
        for outcome, place in zip(outcomes, at, strict=False):
            if outcome.value is None:
                failed[place] = True
                decided[place] = f"failed: {outcome.failure.code if outcome.failure else ''}"
                continue
            value = dict(outcome.value)
            given: Any = value.get("probabilities")
            if _are_shares(given):
                del value["probabilities"]
                is_named = isinstance(given, Mapping)
                classes = classes or (tuple(given) if is_named else ())
                shares[place] = (
                    [given.get(name, np.nan) for name in classes] if is_named else list(given)
                )
            rest = _without_numbers(value, others[place])
            decided[place] = repr((rest, outcome.abstained))
    numbers = np.hstack([_as_matrix(shares), _as_matrix(others)])
    width = max(map(len, shares), default=0)
    return Answers(numbers if numbers.shape[1] else None, width, classes, tuple(decided), failed)


def _are_shares(given: Any) -> bool:
    values = given.values() if isinstance(given, Mapping) else given
    return isinstance(given, Mapping | list) and all(isinstance(v, float | int) for v in values)


def _as_matrix(rows: Sequence[Sequence[float]]) -> Array:
    width = max(map(len, rows), default=0)
    whole = [[*row, *[np.nan] * (width - len(row))] for row in rows]
    return np.array(whole, dtype=np.float64).reshape(len(rows), width)


def _without_numbers(value: Any, numbers: list[float]) -> Any:
    """`value` with a dot for each number, which is taken out."""
    if isinstance(value, float):
        numbers.append(value)
        return "."
    if isinstance(value, dict):
        return {k: _without_numbers(v, numbers) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_numbers(v, numbers) for v in value]
    return value
