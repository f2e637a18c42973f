"""How near the answers of a candidate are to those of the original, and whether that is enough.

Numbers only, from the outcomes of both on the same rows. Label agreement alone cannot tell good
from bad: a tie that flips counts as much as a row of which the original was sure. So the gate looks
at the difference of probabilities (mean and 99th percentile), at flips of rows whose margin was
large, at what the policy decides, and at F1 within its confidence interval. This module does not
know what a candidate is, nor how rows were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salver.types import ClassProbabilities, Outcomes

SURE = 0.1  # margin between the two largest probabilities from which on a flip counts
RESAMPLES = 1000
BINS = 10
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """The gate: a candidate passes if no number is beyond these.

    Attributes:
        name: Of the gate.
        mean: Mean absolute difference of a probability; of other numbers, in standard deviations
            of the original's column.
        p99: 99th percentile, over rows, of the largest difference in a row.
        sure_flips: Rows with another label although the original's margin was above `SURE`.
        decisions: Share of rows whose answer after the policy is another one.
    """

    name: str
    mean: float
    p99: float
    decisions: float
    sure_flips: int = 0


GATES = {
    gate.name: gate
    for gate in (
        Limits("exact", mean=1e-5, p99=1e-4, decisions=0.002),
        Limits("lossless", mean=5e-4, p99=0.02, decisions=0.01),
        Limits("close", mean=3e-3, p99=0.10, decisions=0.02),
    )
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said to n rows, in numbers.

    Attributes:
        numbers: float64 of shape (n, k): probabilities, or else all numbers of a row; null if the
            model gives none.
        is_probabilities: Whether they are probabilities of classes.
        classes: Names of the k classes; empty if they have none.
        decided: What clients get, without the numbers, one text per row.
        failed: bool of shape (n,): rows without a result.
    """

    numbers: Array | None
    is_probabilities: bool
    classes: tuple[str, ...]
    decided: tuple[str, ...]
    failed: Array

    def __len__(self) -> int:
        return len(self.decided)


@dataclass(frozen=True, slots=True)
class Quality:
    """How right a model is, where the truth is known.

    Attributes:
        accuracy: Share of right labels.
        macro_f1: Unweighted mean of the F1 of the classes that occur.
        f1_interval: 95 % interval of it over rows drawn again (percentile bootstrap; Efron 1979).
        calibration_error: Expected calibration error of the largest probability in ten equal bins
            (Naeini et al. 2015).
    """

    accuracy: float
    macro_f1: float
    f1_interval: tuple[float, float]
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A candidate against the original; the worst of all ways in which rows were put together.

    Attributes:
        rows: Compared.
        agreement: Share of rows with the same label, or the same other answer.
        mean: See `Limits`.
        p99: See `Limits`.
        largest: Largest difference in any row.
        flips: Margins of the original where the label is another one, largest first.
        decisions: See `Limits`.
        failures: Rows that fail in one of both only.
        mates: Largest difference of an answer between ways in which rows were put together.
        mates_flips: Rows whose label depends on that.
        differences: float64 of shape (rows,): the largest difference in each row.
        quality: Of the candidate; null without labels.
        reference: Of the original; null without labels.
    """

    rows: int
    agreement: float
    mean: float
    p99: float
    largest: float
    flips: tuple[float, ...]
    decisions: float
    failures: int
    mates: float
    mates_flips: int
    differences: Array
    quality: Quality | None = None
    reference: Quality | None = None

    @property
    def sure_flips(self) -> int:
        """Flips where the original was sure."""
        return sum(margin > SURE for margin in self.flips)

    def refused(self, limits: Limits) -> list[str]:
        """Why the candidate does not pass a gate, one sentence each; none if it does."""
        beyond = [
            ("mean difference", self.mean, limits.mean),
            ("99th percentile of the difference", self.p99, limits.p99),
            ("share of other decisions", self.decisions, limits.decisions),
        ]
        found = [
            f"{what} {value:.2g} > {limit:g}" for what, value, limit in beyond if value > limit
        ]
        if self.sure_flips > limits.sure_flips:
            found.append(
                f"{self.sure_flips} labels flip where the margin was above {SURE:g} (up to "
                f"{self.flips[0]:.2f})"
            )
        if self.failures:
            found.append(f"{self.failures} rows fail in one of both only")
        if self.quality and self.reference:
            low, high = self.reference.f1_interval
            if self.quality.macro_f1 < low:
                found.append(
                    f"macro F1 {self.quality.macro_f1:.3f} is below the original's interval, "
                    f"{low:.3f} to {high:.3f}"
                )
        return found


def answers_of(parts: Sequence[Outcomes], order: Sequence[int]) -> Answers:
    """The outcomes of batches, put back in the order of the rows.

    Args:
        parts: Outcomes of one batch each.
        order: Positions of their rows, one batch after the other.
    """
    n = len(order)
    numbers: list[list[float]] = [[] for _ in range(n)]
    decided, failed = [""] * n, np.zeros(n, dtype=bool)
    classes: tuple[str, ...] = ()
    has_probabilities = any("probabilities" in outcomes.columns for outcomes in parts)
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
            given = value.pop("probabilities", None)
            if given is not None:
                numbers[place] = list(given.values() if isinstance(given, dict) else given)
            else:
                value = _without_numbers(value, numbers[place])
            decided[place] = repr((value, outcome.abstained))
    width = max(map(len, numbers), default=0)
    # Where a row has fewer numbers than another, only their absence can be compared.
    whole = [row + [np.nan] * (width - len(row)) for row in numbers]
    found = np.array(whole, dtype=np.float64) if width else None
    return Answers(found, has_probabilities, classes, tuple(decided), failed)


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


def compared(
    original: Answers, candidate: Sequence[Answers], labels: Sequence[str] | None = None
) -> Fidelity:
    """Compares a candidate with the original.

    Args:
        original: What the original said.
        candidate: What the candidate said to the same rows, once for each way in which they were
            put together into batches.
        labels: The true classes, if they are known.
    """
    n = len(original)
    differences = np.max([_differences(original, one) for one in candidate], axis=0)
    flipped = np.any([_labels(original) != _labels(one) for one in candidate], axis=0)
    decided = np.array(original.decided)
    others = np.any([decided != np.array(one.decided) for one in candidate], axis=0)
    if not original.is_probabilities:
        flipped = others
    flips = margins_of(original)[flipped]
    first = candidate[0]
    moved = [_differences(first, one) for one in candidate[1:]]
    turned = [_labels(first) != _labels(one) for one in candidate[1:]]
    return Fidelity(
        rows=n,
        agreement=float(1 - flipped.mean()),
        mean=max(_mean(original, one) for one in candidate),
        p99=float(np.quantile(differences, 0.99, method="higher")),
        largest=float(differences.max()),
        flips=tuple(sorted(flips.tolist(), reverse=True)),
        decisions=float(others.mean()),
        failures=int(np.any([one.failed != original.failed for one in candidate], axis=0).sum()),
        mates=float(np.max(moved, initial=0.0)),
        mates_flips=int(np.any(turned, axis=0).sum()) if turned else 0,
        differences=differences,
        quality=None if labels is None else quality(first, labels),
        reference=None if labels is None else quality(original, labels),
    )


def _differences(a: Answers, b: Answers) -> Array:
    """The largest difference in each row; 0 for rows that fail, infinite for other shapes."""
    if a.numbers is None or b.numbers is None:
        return np.full(len(a), 0.0 if a.numbers is b.numbers else np.inf)
    if a.numbers.shape != b.numbers.shape:
        return np.full(len(a), np.inf)
    return np.asarray(_apart(a, b).max(axis=1, initial=0.0))


def _mean(a: Answers, b: Answers) -> float:
    if a.numbers is None or b.numbers is None or a.numbers.shape != b.numbers.shape:
        return float(np.max(_differences(a, b), initial=0.0))
    is_there = ~(np.isnan(a.numbers) & np.isnan(b.numbers))
    return float(_apart(a, b)[is_there].mean()) if is_there.any() else 0.0


def _apart(a: Answers, b: Answers) -> Array:
    """Differences of all numbers: none where both have none, infinite where one of both has."""
    assert a.numbers is not None
    assert b.numbers is not None
    lacks, also = np.isnan(a.numbers), np.isnan(b.numbers)
    found = np.abs(np.nan_to_num(a.numbers) - np.nan_to_num(b.numbers)) / _scale(a)
    found[lacks != also] = np.inf
    found[a.failed & b.failed] = 0.0
    return np.asarray(found)


def _scale(answers: Answers) -> Array:
    """What a difference is measured in: 1 for probabilities, else the spread of the column."""
    assert answers.numbers is not None
    if answers.is_probabilities:
        return np.ones(1)
    spread = np.nan_to_num(np.nanstd(answers.numbers, axis=0))
    fallback = np.maximum(np.nan_to_num(np.abs(answers.numbers)).max(axis=0, initial=0.0), 1e-12)
    return np.asarray(np.where(spread > 1e-9 * fallback, spread, fallback))


def _labels(answers: Answers) -> Array:
    if answers.numbers is None or not answers.is_probabilities:
        return np.array(answers.decided)
    best = np.nan_to_num(answers.numbers).argmax(axis=1)
    return np.asarray(np.where(answers.failed, -1, best))


def margins_of(answers: Answers) -> Array:
    """Difference of the two largest probabilities; 1 where there are no such."""
    if answers.numbers is None or not answers.is_probabilities or answers.numbers.shape[1] < 2:
        return np.ones(len(answers))
    two = np.sort(np.nan_to_num(answers.numbers), axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def quality(answers: Answers, labels: Sequence[str]) -> Quality | None:
    """How right answers are; null if they name no classes."""
    if answers.numbers is None or not answers.is_probabilities:
        return None
    index = {name: i for i, name in enumerate(answers.classes)}
    truth = np.array([index.get(label, -1) for label in labels])
    found = _labels(answers)
    right = truth == found
    draws = np.random.default_rng(0).integers(0, len(truth), (RESAMPLES, len(truth)))
    spread = [macro_f1(truth[draw], found[draw]) for draw in draws]
    low, high = np.quantile(spread, (0.025, 0.975))
    sure = np.nan_to_num(answers.numbers).max(axis=1)
    return Quality(
        float(right.mean()),
        macro_f1(truth, found),
        (float(low), float(high)),
        calibration_error(sure, right),
    )


def macro_f1(truth: Array, found: Array) -> float:
    """Unweighted mean of the F1 of each class that occurs in `truth`."""
    scores = []
    for one in np.unique(truth):
        hits = np.sum((truth == one) & (found == one))
        scores.append(2 * hits / (np.sum(truth == one) + np.sum(found == one)))
    return float(np.mean(scores))


def calibration_error(confidence: Array, right: Array) -> float:
    """Mean difference between confidence and share of right answers, over ten equal bins."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    parts = [(bins == i) for i in range(BINS)]
    gaps = [abs(confidence[p].mean() - right[p].mean()) * p.mean() for p in parts if p.any()]
    return float(np.sum(gaps))
