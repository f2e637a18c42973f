"""Fits calibrators on held-out rows, and uses one only if it is certain to help.

Every judgement is of rows that the calibrator was not fitted on. This module does not know where
the rows come from; what is used when serving is in `salver.trust.calibrators` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from salver.errors import ConfigError
from salver.trust.calibrators import (
    Calibrator,
    Identity,
    Isotonic,
    Knots,
    Temperature,
    VectorScaling,
    calibrator_of,
    confidence,
    logits_of,
    softmax,
)
from salver.trust.quality import (
    LEAST,
    RESAMPLES,
    Array,
    Estimate,
    Honesty,
    checked,
    counts_drawn,
    honesty,
    log_loss,
)

__all__ = [
    "Attempt",
    "Calibrator",
    "Choice",
    "Identity",
    "Isotonic",
    "Knots",
    "Temperature",
    "VectorScaling",
    "calibrator_of",
    "choose",
    "confidence",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector_scaling",
]

FEWEST = 30  # rows from which on anything is fitted
FOLDS = 10
CERTAIN = 0.99
LUCK_DRAWS = 999
COLDEST, HOTTEST = 0.05, 20.0
PULL = 1.0  # how much, in rows, a class's weight and bias are held to 1 and 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one kind of calibrator does to rows that it was not fitted on.

    Attributes:
        name: Of the calibrator.
        log_loss: By how much the mean log loss of a row falls, in nats; each end of the interval is
            one-sided at 99 %.
        before: How honest the model is by itself.
        after: How honest it is with the calibrator, about the same predictions.
        is_certain: It helps: the low end of `log_loss` is above 0, a model without fault would not
            look as much improved in more than 1 of 100 cases, and the calibration error is not
            above its interval before.
    """

    name: str
    log_loss: Estimate
    before: Honesty
    after: Honesty
    is_certain: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The calibrator to use.

    Attributes:
        calibrator: Fitted on all rows.
        attempts: What was tried, the simplest first; empty if there were too few rows.
        out_of_fold: float64 of shape (n, k): each row's probabilities by a calibrator of the same
            kind that was not fitted on it.
        note: Why, in a sentence for people.
    """

    calibrator: Calibrator
    attempts: tuple[Attempt, ...]
    out_of_fold: Array
    note: str


def fit_temperature(probabilities: Array, labels: Array) -> Temperature:
    """The temperature with the least log loss, within 0.05 to 20.

    Args:
        probabilities: float of shape (n, k).
        labels: Positions of the true classes, int of shape (n,).

    Raises:
        ConfigError: See `salver.trust.quality.checked`.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped,unused-ignore]

    given, labels = checked(probabilities, labels)
    logits = logits_of(given)
    of_truth = logits[np.arange(len(labels)), labels]

    def loss(log_t: float) -> float:
        t = math.exp(log_t)
        return float((_log_sum(logits / t) - of_truth / t).mean()) if len(labels) else 0.0

    # Convex in 1 / t, so there is one least loss also over log t.
    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return Temperature(math.exp(found.x))


def fit_vector_scaling(probabilities: Array, labels: Array) -> VectorScaling:
    """The weights and biases with the least log loss, held a little to 1 and 0.

    The hold (half the squared distance, in all rows' log loss) keeps a class that never occurs from
    being ruled out.

    Args:
        probabilities: float of shape (n, k).
        labels: Positions of the true classes, int of shape (n,).

    Raises:
        ConfigError: See `salver.trust.quality.checked`.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped,unused-ignore]

    given, labels = checked(probabilities, labels)
    logits, k = logits_of(given), given.shape[1]
    start = np.concatenate([np.ones(k), np.zeros(k)])
    truth = np.zeros_like(given)
    truth[np.arange(len(labels)), labels] = 1.0
    scale = 1.0 / max(len(labels), 1)

    def loss(both: Array) -> tuple[float, Array]:
        moved = logits * both[:k] + both[k:]
        off = both - start
        value = (_log_sum(moved) - (moved * truth).sum(axis=1)).sum() + PULL / 2 * (off @ off)
        apart = softmax(moved) - truth
        slope = np.concatenate([(apart * logits).sum(axis=0), apart.sum(axis=0)]) + PULL * off
        return float(value) * scale, slope * scale

    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-12}
    ).x
    return VectorScaling(tuple(found[:k].tolist()), tuple(found[k:].tolist()))


def fit_isotonic(probabilities: Array, labels: Array) -> Isotonic:
    """The line of each class that never falls and has the least squared error.

    No share is less than if, beside the rows given, one more had been seen that belonged to all
    classes alike (Perks 1947): what never occurred in n rows is not impossible.

    Args:
        probabilities: float of shape (n, k), with n at least 1.
        labels: Positions of the true classes, int of shape (n,).

    Raises:
        ConfigError: See `salver.trust.quality.checked`; or if there are no rows.
    """
    from sklearn.isotonic import IsotonicRegression

    given, labels = checked(probabilities, labels)
    n, k = given.shape
    if not n:
        raise ConfigError("There are no rows to calibrate on; give at least one.")
    least = 1.0 / (k * (n + 1))
    lines = []
    for i in range(k):
        line = IsotonicRegression(y_min=least, y_max=1.0).fit(given[:, i], labels == i)
        lines.append(Knots(tuple(line.X_thresholds_.tolist()), tuple(line.y_thresholds_.tolist())))
    return Isotonic(tuple(lines))


# Simplest first, which wins a tie.
_FITS: dict[str, Callable[[Array, Array], Calibrator]] = {
    Temperature.name: fit_temperature,
    VectorScaling.name: fit_vector_scaling,
    Isotonic.name: fit_isotonic,
}


def choose(probabilities: Array, labels: Array, seed: int = 0) -> Choice:
    """The calibrator that certainly helps, the most helpful if several do; else none.

    Args:
        probabilities: Of held-out rows, float of shape (n, k), whose rows sum to 1.
        labels: Positions of their true classes, int of shape (n,).
        seed: Of the folds, and of the chance that `_is_luck` looks at.

    Raises:
        ConfigError: See `salver.trust.quality.checked`.
    """
    given, labels = checked(probabilities, labels)
    if len(labels) < FEWEST:
        note = (
            f"Probabilities stay as they are: {len(labels)} rows are too few to mend them by; it "
            f"takes {FEWEST}, and some hundreds to be certain."
        )
        return Choice(Identity(), (), given, note)
    folds = _folds(labels, seed)
    mended = {name: _out_of_fold(fit, given, labels, folds) for name, fit in _FITS.items()}
    before = honesty(given, labels)
    attempts = tuple(
        _attempt(name, given, after, labels, before, seed) for name, after in mended.items()
    )
    certain = [one for one in attempts if one.is_certain]
    if not certain:
        nearest = max(attempts, key=lambda one: one.log_loss.value)
        note = (
            f"Probabilities stay as they are: of {len(labels)} rows, it is not certain that any "
            f"calibration helps ({nearest.name} is the nearest: {_told(nearest)})."
        )
        return Choice(Identity(), attempts, given, note)
    best = max(certain, key=lambda one: one.log_loss.value)
    fitted = _FITS[best.name](given, labels)
    return Choice(fitted, attempts, mended[best.name], f"{best.name.capitalize()}: {_told(best)}.")


def _attempt(
    name: str, given: Array, mended: Array, labels: Array, before: Honesty, seed: int
) -> Attempt:
    gains = log_loss(given, labels) - log_loss(mended, labels)
    after = honesty(mended, labels, predicted=given.argmax(axis=1))
    gained = _mean(gains, seed)
    is_certain = (
        gained.low > 0
        and after.calibration_error.value <= before.calibration_error.high
        and not _is_luck(given, mended, gains.sum(), seed)
    )
    return Attempt(name, gained, before, after, is_certain)


def _told(one: Attempt) -> str:
    gained, was, is_now = one.log_loss, one.before, one.after
    return (
        f"on rows that it was not fitted on, log loss falls by {gained.value:.3f} (99 % certain: "
        f"by {gained.low:.3f} or more), and the calibration error goes from "
        f"{was.calibration_error.value:.3f} to {is_now.calibration_error.value:.3f}"
    )


def _mean(values: Array, seed: int) -> Estimate:
    """The mean with its studentised bootstrap interval, each end one-sided at `CERTAIN`.

    Gains are skewed: many rows gain a little and few lose much, or the other way round. Student's
    interval is then too wide or too narrow; this one follows the skew (Hall 1988).
    """
    n, middle = len(values), float(values.mean())
    off = values - middle
    table = np.column_stack([off, off**2])
    drawn = np.concatenate([counts @ table for counts in counts_drawn(n, RESAMPLES, seed)]) / n
    spread = np.sqrt(np.maximum(drawn[:, 1] - drawn[:, 0] ** 2, 0.0))
    # Where all rows drawn are alike, their mean is off by as much as it likes.
    scores = drawn[:, 0] / np.maximum(spread, 1e-12)
    least, most = np.quantile(scores, (1 - CERTAIN, CERTAIN)) * float(values.std())
    # A mean above every gain that was seen is only the fault of such draws.
    high = min(max(middle - float(least), middle), float(values.max()))
    return Estimate(middle, min(middle - float(most), middle), max(high, middle))


def _is_luck(given: Array, mended: Array, gained: float, seed: int) -> bool:
    """If a model without fault would look as much improved in more than 1 of 100 cases.

    Its true classes are drawn from its own probabilities (consistency resampling; Bröcker & Smith
    2007). No interval of the mean can see what did not occur: of a model that is right in 98 of 100
    rows, 60 rows often hold no mistake, and then each row is the better the surer it is made.
    """
    random = np.random.default_rng(seed)
    gains = np.log(np.clip(mended, LEAST, 1.0)) - np.log(np.clip(given, LEAST, 1.0))
    edges = np.cumsum(given, axis=1)
    edges[:, -1] = np.inf
    total = np.zeros(LUCK_DRAWS)
    for gain, edge in zip(gains, edges, strict=True):
        total += gain[np.searchsorted(edge, random.random(LUCK_DRAWS), side="right")]
    # The case without a mistake must count as itself, in whatever order it was summed.
    as_good = np.sum(total >= gained - 1e-9 * len(gains))
    return bool((as_good + 1) / (LUCK_DRAWS + 1) > 1 - CERTAIN)


def _folds(labels: Array, seed: int) -> Array:
    """The fold of each row, of shape (n,): every class is spread over all folds evenly."""
    count = min(FOLDS, max(len(labels) // FOLDS, 3))
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.intp)
    folds[order] = np.arange(len(labels)) % count
    return folds


def _out_of_fold(
    fit: Callable[[Array, Array], Calibrator], given: Array, labels: Array, folds: Array
) -> Array:
    mended = np.empty_like(given)
    for fold in range(int(folds.max()) + 1):
        is_out = folds == fold
        mended[is_out] = fit(given[~is_out], labels[~is_out])(given[is_out])
    return mended


def _log_sum(logits: Array) -> Array:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
