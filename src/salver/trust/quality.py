"""How right and how honest the probabilities of classes are, and how sure one can be of that.

Numbers only, from probabilities and true classes of the same rows. This module does not know which
model gave the probabilities, nor whether they were changed on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from salver.errors import ConfigError

Array = np.ndarray[Any, Any]
BINS = 10
RESAMPLES = 1000
LEAST = 1e-12  # a probability of 0 has no logarithm
_DRAWS = 100_000  # row numbers held at a time, few enough for the processor's cache


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number from a sample.

    Attributes:
        value: On the sample itself.
        low: Lower end of its interval.
        high: Upper end of its interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Honesty:
    """How well probabilities tell how often the model is right; each with its 95 % interval.

    Attributes:
        calibration_error: See `calibration_error`. It is never negative, so chance alone lifts it,
            and drawing rows again lifts it once more: the interval lies too high, the more so the
            fewer the rows, and is no evidence that the true error is not 0.
        brier: Mean of `brier`; 0 is best, 2 is worst.
        log_loss: Mean of `log_loss`, in nats.
        accuracy: Share of right predictions.
    """

    calibration_error: Estimate
    brier: Estimate
    log_loss: Estimate
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose confidence is about the same.

    Attributes:
        low: Least confidence that belongs to it.
        high: Least confidence that belongs to the next; 1 belongs to the last.
        count: How many rows.
        confidence: Their mean confidence.
        right: Share of them that is right, with its 95 % interval (Wilson 1927).
    """

    low: float
    high: float
    count: int
    confidence: float
    right: Estimate


def macro_f1(truth: Array, found: Array) -> float:
    """Unweighted mean of the F1 of each class that occurs in `truth`.

    Args:
        truth: True classes, of shape (n,).
        found: Predicted classes, of shape (n,).
    """
    scores = []
    for one in np.unique(truth):
        hits = np.sum((truth == one) & (found == one))
        scores.append(2 * hits / (np.sum(truth == one) + np.sum(found == one)))
    return float(np.mean(scores))


def calibration_error(confidence: Array, right: Array) -> float:
    """Mean difference of confidence and share of right answers, over ten equal bins.

    This is the expected calibration error of Naeini et al. (2015).

    Args:
        confidence: float of shape (n,), within 0 to 1.
        right: bool of shape (n,).
    """
    gaps = np.bincount(_bins(confidence), confidence - right, BINS)
    return float(np.abs(gaps).sum() / max(len(right), 1))


def log_loss(probabilities: Array, labels: Array) -> Array:
    """Minus the logarithm of the true class's probability, in nats.

    Args:
        probabilities: float of shape (n, k).
        labels: Positions of the true classes, int of shape (n,).

    Returns:
        float64 of shape (n,); never above 27.7, for probabilities below 1e-12 count as that.
    """
    given = np.asarray(probabilities, dtype=np.float64)[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(given, LEAST, 1.0)))


def brier(probabilities: Array, labels: Array) -> Array:
    """Squared distance to the truth, summed over all classes (Brier 1950).

    Args:
        probabilities: float of shape (n, k).
        labels: Positions of the true classes, int of shape (n,).

    Returns:
        float64 of shape (n,), within 0 to 2.
    """
    apart = np.array(probabilities, dtype=np.float64)
    apart[np.arange(len(labels)), labels] -= 1.0
    return np.asarray((apart**2).sum(axis=1))


def bootstrap(
    statistic: Callable[..., float],
    *arrays: Array,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic with its percentile interval over rows drawn again (Efron 1979).

    Args:
        statistic: Takes the arrays and gives one number.
        arrays: Each of shape (n, ...); the same rows are drawn of all.
        level: Of the interval, two-sided.
        resamples: How often rows are drawn again.
        seed: Of the draws.

    Returns:
        The interval always holds the value itself, also of a statistic that drawing again biases.

    Raises:
        ConfigError: If there are no rows, or not the same number in all arrays.
    """
    rows = {len(one) for one in arrays}
    if len(rows) != 1 or 0 in rows:
        raise ConfigError(
            f"An interval was asked of arrays of {sorted(rows)} rows; it needs at least one row, "
            "and the same number in each array."
        )
    spread = [
        statistic(*(one[draw] for one in arrays))
        for draws in _draws(rows.pop(), resamples, seed)
        for draw in draws
    ]
    return _percentile(statistic(*arrays), np.array(spread), level)


def honesty(probabilities: Array, labels: Array, predicted: Array | None = None) -> Honesty:
    """How well probabilities tell how often the model is right.

    Args:
        probabilities: float of shape (n, k), whose rows sum to 1.
        labels: Positions of the true classes, int of shape (n,).
        predicted: Positions of the classes that the model names, int of shape (n,), where that is
            not the one with the largest probability: a calibrator changes probabilities only.

    Raises:
        ConfigError: See `checked`; or if there are no rows.
    """
    given, labels = checked(probabilities, labels)
    if not len(labels):
        raise ConfigError("There are no rows to judge probabilities by; give at least one.")
    n = len(labels)
    said = given.argmax(axis=1) if predicted is None else predicted
    confidence, right = given[np.arange(n), said], said == labels
    # All four are sums over rows, so each draw is its counts of rows times one table.
    gaps = np.zeros((n, BINS))
    gaps[np.arange(n), _bins(confidence)] = confidence - right
    table = np.column_stack([gaps, brier(given, labels), log_loss(given, labels), right])
    sums = [counts @ table for counts in counts_drawn(n, RESAMPLES, seed=0)]
    spread = _collected(np.concatenate(sums) / n)
    values = _collected(table.mean(axis=0, keepdims=True))
    return Honesty(*(_percentile(v.item(), s, 0.95) for v, s in zip(values, spread, strict=True)))


def reliability(confidence: Array, right: Array) -> list[Bin]:
    """The ten equal bins of confidence that hold any rows, from the lowest.

    Args:
        confidence: float of shape (n,), within 0 to 1.
        right: bool of shape (n,).
    """
    bins = _bins(confidence)
    found = []
    for i in range(BINS):
        mine = bins == i
        count, hits = int(mine.sum()), int(right[mine].sum())
        if count:
            sure = float(confidence[mine].mean())
            found.append(Bin(i / BINS, (i + 1) / BINS, count, sure, _wilson(hits, count)))
    return found


def checked(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    """Probabilities as float64 and labels as positions, if they belong together.

    Args:
        probabilities: float of shape (n, k).
        labels: Positions of the true classes, int of shape (n,).

    Raises:
        ConfigError: If shapes do not fit, a probability is not within 0 to 1, a row does not sum
            to 1, or a label is not the position of a class.
    """
    given, at = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if given.ndim != 2 or at.shape != given.shape[:1] or not given.shape[1]:
        raise ConfigError(
            f"Probabilities of shape {given.shape} came with labels of shape {at.shape}; give one "
            "row of probabilities and one label for each."
        )
    is_wrong = ~is_distribution(given)
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise ConfigError(
            f"Row {row} is {given[row][:10].tolist()}, which are no probabilities of classes; each "
            "must be within 0 and 1, and a row must sum to 1."
        )
    if at.size and (at.dtype.kind not in "iu" or at.min() < 0 or at.max() >= given.shape[1]):
        raise ConfigError(
            f"Labels ({at[:5].tolist()} ...) must be positions of the {given.shape[1]} classes, "
            f"from 0 to {given.shape[1] - 1}. Leave out rows of classes that the model does not "
            "have."
        )
    return given, at.astype(np.intp)


def is_share(probabilities: Array) -> Array:
    """Whether each number is within 0 and 1, but for rounding.

    Args:
        probabilities: float of any shape.

    Returns:
        bool of the same shape.
    """
    return np.asarray((probabilities >= 0) & (probabilities <= 1 + 1e-6))


def is_distribution(probabilities: Array) -> Array:
    """Whether each row is a distribution over classes: shares that sum to 1, but for rounding.

    Args:
        probabilities: float of shape (n, k).

    Returns:
        bool of shape (n,).
    """
    has_sum = np.abs(probabilities.sum(axis=1) - 1) <= 1e-3
    return np.asarray(is_share(probabilities).all(axis=1) & has_sum)


def counts_drawn(rows: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each row is among as many that are drawn again.

    Args:
        rows: That there are, and that are drawn each time.
        resamples: How often.
        seed: Of the draws.

    Yields:
        float64 of shape (some, rows), until there were `resamples`.
    """
    for draws in _draws(rows, resamples, seed):
        places = draws + rows * np.arange(len(draws))[:, None]
        counts = np.bincount(places.ravel(), minlength=draws.size)
        yield counts.reshape(draws.shape).astype(np.float64)


def _bins(confidence: Array) -> Array:
    return np.asarray(np.clip((confidence * BINS).astype(int), 0, BINS - 1))


def _draws(rows: int, resamples: int, seed: int) -> Iterator[Array]:
    """Numbers of rows, of shape (some, rows) each time, until there were `resamples`."""
    random = np.random.default_rng(seed)
    at_once = max(_DRAWS // rows, 1)
    for start in range(0, resamples, at_once):
        yield random.integers(0, rows, (min(at_once, resamples - start), rows))


def _collected(means: Array) -> tuple[Array, Array, Array, Array]:
    """The attributes of `Honesty`, from the means of its table; each of shape (m,)."""
    gaps, rest = means[:, :BINS], means[:, BINS:]
    return np.abs(gaps).sum(axis=1), rest[:, 0], rest[:, 1], rest[:, 2]


def _percentile(value: float, spread: Array, level: float) -> Estimate:
    low, high = np.quantile(spread, ((1 - level) / 2, (1 + level) / 2))
    return Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)))


def _wilson(hits: int, rows: int) -> Estimate:
    """A share with its 95 % interval (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    share, wide = hits / rows, z * z / rows
    middle = (share + wide / 2) / (1 + wide)
    reach = z / (1 + wide) * math.sqrt(share * (1 - share) / rows + wide / (4 * rows))
    return Estimate(share, max(min(middle - reach, share), 0.0), min(max(middle + reach, share), 1))
