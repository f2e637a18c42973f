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

import numpy as np

from salver.optimization.answers import UNKNOWN, Answers, Array
from salver.trust.quality import calibration_error, macro_f1

SURE = 0.1  # margin between the two largest probabilities from which on a flip counts
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """The gate: a candidate passes if no number is beyond these.

    Attributes:
        name: Of the gate.
        mean: Mean absolute difference of a probability; of other numbers, see `Answers.scale`; the
            larger of both.
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
    differences = np.max([_differences(original, one) for one in candidate], axis=0)
    flipped = np.any([original.labels != one.labels for one in candidate], axis=0)
    decided = np.array(original.decided)
    others = np.any([decided != np.array(one.decided) for one in candidate], axis=0)
    first = candidate[0]
    moved = [_differences(first, one) for one in candidate[1:]]
    turned = [first.labels != one.labels for one in candidate[1:]]
    judged = [] if labels is None else [quality(one, labels) for one in candidate]
    return Fidelity(
        rows=len(original),
        agreement=float(1 - flipped.mean()),
        mean=max(_mean(original, one) for one in candidate),
        p99=float(np.quantile(differences, 0.99, method="higher")),
        largest=float(differences.max()),
        flips=tuple(sorted(original.margins[flipped].tolist(), reverse=True)),
        decisions=float(others.mean()),
        failures=int(np.any([one.failed != original.failed for one in candidate], axis=0).sum()),
        mates=float(np.max(moved, initial=0.0)),
        mates_flips=int(np.any(turned, axis=0).sum()) if turned else 0,
        differences=differences,
        quality=min(filter(None, judged), key=lambda one: one.macro_f1, default=None),
        reference=None if labels is None else quality(original, labels),
    )


def _differences(a: Answers, b: Answers) -> Array:
    """The largest difference in each row; 0 for rows that fail, infinite for other shapes."""
    if a.numbers is None or b.numbers is None:
        return np.full(len(a), 0.0 if a.numbers is b.numbers else np.inf)
    if not _are_alike(a, b):
        return np.full(len(a), np.inf)
    return np.asarray(_apart(a, b).max(axis=1, initial=0.0))


def _mean(a: Answers, b: Answers) -> float:
    """Of probabilities or of other numbers, whichever is larger."""
    if a.numbers is None or b.numbers is None or not _are_alike(a, b):
        return float(np.max(_differences(a, b), initial=0.0))
    apart, is_there = _apart(a, b), ~(np.isnan(a.numbers) & np.isnan(b.numbers))
    kinds = slice(a.probabilities), slice(a.probabilities, None)
    found = [apart[:, kind][is_there[:, kind]] for kind in kinds]
    return max((float(one.mean()) for one in found if one.size), default=0.0)


def _are_alike(a: Answers, b: Answers) -> bool:
    assert a.numbers is not None
    assert b.numbers is not None
    is_same = (a.probabilities, a.classes) == (b.probabilities, b.classes)
    return is_same and a.numbers.shape == b.numbers.shape


def _apart(a: Answers, b: Answers) -> Array:
    """Differences of all numbers: none where both have none, infinite where one of both has."""
    assert a.numbers is not None
    assert b.numbers is not None
    lacks, also = np.isnan(a.numbers), np.isnan(b.numbers)
    found = np.abs(np.nan_to_num(a.numbers) - np.nan_to_num(b.numbers)) / a.scale
    found[lacks != also] = np.inf
    found[a.failed & b.failed] = 0.0
    return np.asarray(found)


def quality(answers: Answers, labels: Sequence[str]) -> Quality | None:
    """How right answers are; null if they name no classes."""
    if not answers.probabilities or not answers.classes:
        return None
    index = {name: i for i, name in enumerate(answers.classes)}
    truth = np.array([index.get(label, UNKNOWN) for label in labels])
    found = answers.labels
    right = truth == found
    draws = np.random.default_rng(0).integers(0, len(truth), (RESAMPLES, len(truth)))
    spread = [macro_f1(truth[draw], found[draw]) for draw in draws]
    low, high = np.quantile(spread, (0.025, 0.975))
    return Quality(
        float(right.mean()),
        macro_f1(truth, found),
        (float(low), float(high)),
        calibration_error(answers.given.max(axis=1), right),
    )
