"""How far the rows of late are from those of before, and how likely that is by chance.

Numbers only: counts, values and p-values. This module does not know what was counted, how large a
difference matters, nor who is told. Every p-value is of independent rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from salver.bounds import ROUNDING, binomial_cdf
from salver.errors import ConfigError

Array = np.ndarray[Any, Any]
HALF = 0.5  # of a row, which an empty cell counts as
EXPECTED = 5.0  # rows, below which the chi-square distribution is no good guide (Cochran 1954)
ROWS_EACH = 30  # rows of a bin in the smaller sample, at least
_LARGEST = float(np.finfo(np.float64).max)
_DIGITS = 15  # after the point, at most
_TINY = 1e-300  # instead of a 0 that would be divided by
_EXACT = 1e-16


def population_stability_index(reference: Array, recent: Array) -> float:
    """The sum of (q - p) * log(q / p) over cells with shares p and q, in nats; 0 if they are equal.

    This is Jeffreys' divergence (Jeffreys 1946), under the name that it has in banking (Siddiqi
    2006). A cell that one sample leaves empty counts as half a row there; one that both leave empty
    is left out. Which sample is which makes no difference.

    Args:
        reference: Rows in each cell, of shape (k,).
        recent: The same of the other sample.

    Raises:
        ConfigError: If shapes differ, a count is negative or not finite, or a sample has no rows.
    """
    p, q = (_shares(np.where(one == 0, HALF, one)) for one in _checked(reference, recent))
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon_distance(reference: Array, recent: Array) -> float:
    """Square root of the divergence of Lin (1991) to base 2, within 0 to 1.

    1 if no cell has rows of both samples. It is a metric (Endres & Schindelin 2003).

    Args:
        reference: Rows in each cell, of shape (k,).
        recent: The same of the other sample.

    Raises:
        ConfigError: See `population_stability_index`.
    """
    p, q = map(_shares, _checked(reference, recent))
    middle = (p + q) / 2
    parts = [one[one > 0] * np.log2(one[one > 0] / middle[one > 0]) for one in (p, q)]
    return math.sqrt(min(max(float(np.sum(np.concatenate(parts))) / 2, 0.0), 1.0))


def chance(reference: Array, recent: Array) -> float:
    """p-value of the hypothesis that both samples are drawn from the same shares.

    Pearson's chi-square test of homogeneity (Pearson 1911). Cells in which fewer than 5 rows of the
    smaller sample are expected (Cochran 1954) are pooled, the rarest of the others with them until
    5 are expected there. What is pooled follows from the sums of both samples, which say nothing of
    how they differ. 1 if a single cell is left.

    Args:
        reference: Rows in each cell, of shape (k,).
        recent: The same of the other sample.

    Raises:
        ConfigError: See `population_stability_index`.
    """
    before, after = _checked(reference, recent)
    total = before + after
    share = before.sum() / total.sum()
    order = np.argsort(total, kind="stable")
    expected = total[order] * min(share, 1 - share)
    small = int((expected < EXPECTED).sum())
    pooled = max(small, int(np.searchsorted(np.cumsum(expected), EXPECTED)) + 1)
    if pooled >= len(total):
        return 1.0
    starts = np.append(0, np.arange(pooled, len(total)))
    before, total = (np.add.reduceat(one[order], starts) for one in (before, total))
    apart = (before - share * total) ** 2 / (share * (1 - share) * total)
    return chi_square_tail(float(apart.sum()), len(total) - 1)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Probability of a larger value of a chi-square distribution.

    The regularised incomplete gamma function, by its series below the mean and by its continued
    fraction above (Press et al. 2007, "Numerical Recipes", section 6.2), so that a tail keeps its
    digits however small it is.

    Args:
        statistic: At least 0.
        freedom: Degrees of freedom, at least 1.

    Raises:
        ConfigError: If an argument is too small, or not a number.
    """
    if not statistic >= 0 or freedom < 1:
        raise ConfigError(
            f"chi_square_tail was given statistic={statistic} and freedom={freedom}; it takes a "
            "statistic of at least 0 and a freedom of at least 1."
        )
    a, x = freedom / 2, statistic / 2
    if x == 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a)) if x < _LARGEST else 0.0
    if scale == 0:
        return float(x < a)
    return max(1 - scale * _series(a, x), 0.0) if x < a + 1 else min(scale * _fraction(a, x), 1.0)


def binned(reference: Array, recent: Array, bins: int = 10) -> tuple[list[str], Array, Array]:
    """Rows of both samples in ranges that hold equally many rows of the reference.

    There are fewer bins for small samples, so that the smaller one has 30 rows for each; but two at
    least. With these, `chance` called 5.2 % of alike samples of 309 and 1,000 rows different at a
    level of 5 %, and 0.12 % at 0.1 %; with a reference of 60 to 150 rows up to 0.15 %.

    Args:
        reference: float of shape (n,); NaN is left out.
        recent: float of shape (m,); NaN is left out.
        bins: At most; at least 2.

    Returns:
        Names of the ranges, such as "0.42 to 0.57" or "above 0.99", in rising order, and how many
        rows of the reference and of the recent sample each holds. See `cuts_of` for values that
        occur often. A range without any rows is left out.

    Raises:
        ConfigError: If a sample has no numbers, or fewer than 2 bins are asked for.
    """
    before, after = (_numbers(one) for one in (reference, recent))
    if not before.size or not after.size:
        raise ConfigError(
            f"Ranges were asked of {len(before)} and {len(after)} numbers; give at least one of "
            "each."
        )
    cuts = cuts_of(before, min(bins, max(min(len(before), len(after)) // ROWS_EACH, 2)))
    names = range_names(cuts, np.concatenate([before, after]))
    counts = [np.bincount(np.searchsorted(cuts, v), minlength=len(names)) for v in (before, after)]
    used = np.flatnonzero(counts[0] + counts[1])
    return [names[i] for i in used.tolist()], counts[0][used], counts[1][used]


def cuts_of(values: Array, bins: int) -> Array:
    """Where ranges of equally many values end.

    A cut lies half-way between two values. Equal values stay together, which makes ranges fewer;
    one that alone would fill a range gets its own. So a constant has ranges below, at and above.

    Args:
        values: float of shape (n,), at least one; NaN is left out.
        bins: At least 2.

    Returns:
        float64 of shape (c,), rising: range i holds what is above cut i - 1 and not above cut i, as
        `numpy.searchsorted` finds it; there are c + 1.

    Raises:
        ConfigError: If fewer than 2 bins are asked for.
    """
    if bins < 2:
        raise ConfigError(f"{bins} ranges were asked for; it takes 2 or more.")
    ranked = np.sort(_numbers(values))
    n = len(ranked)
    ends = np.arange(1, bins) * n // bins
    low, high = ranked[np.maximum(ends - 1, 0)], ranked[ends]
    middle = low / 2 + high / 2
    between = np.where((middle > low) & (middle < high), middle, low)
    often = np.unique(low[low == high])
    counts = np.searchsorted(ranked, often, "right") - np.searchsorted(ranked, often, "left")
    alone = often[counts * bins >= n]
    return np.unique(np.concatenate([between, alone, np.nextafter(alone, -np.inf)]))


def range_names(cuts: Array, values: Array) -> list[str]:
    """Readable names of the ranges between cuts, such as "0.42 to 0.57".

    Whole numbers are named by the first and the last of a range: "13 to 25".

    Args:
        cuts: float64 of shape (c,), at least one; see `cuts_of`.
        values: float of shape (n,): all that is to be put in a range, without NaN.

    Returns:
        c + 1 names.
    """
    # A cut just below another one sets a single value apart, and is shown as that value.
    is_below = np.append(np.nextafter(cuts[:-1], np.inf) == cuts[1:], False)
    shown = np.where(is_below, np.append(cuts[1:], 0.0), cuts)
    if np.all(values == np.floor(values)) and np.abs(shown).max() < 1 / _EXACT:
        last = np.where(is_below, shown - 1, np.floor(shown)).astype(np.int64)
        below = f"below {int(shown[0]):,}" if is_below[0] else f"up to {last[0]:,}"
        ranges = [_range(f"{a + 1:,}", f"{b:,}") for a, b in pairwise(last.tolist())]
        return [below, *ranges, f"above {last[-1]:,}"]
    texts = _texts(shown, np.unique(np.append(shown, [values.min(), values.max()])))
    ranges = [_range(a, b) for a, b in pairwise(texts)]
    return [("below " if is_below[0] else "up to ") + texts[0], *ranges, f"above {texts[-1]}"]


def misses(hits: int, of: int, promised: float, is_least: bool) -> float:
    """p-value of a promise about a share: how likely a miss like this is if it is just kept.

    The exact one-sided tail of the binomial distribution.

    Args:
        hits: Rows of which it is true, 0 to `of`.
        of: Rows.
        promised: Their share, within 0 to 1.
        is_least: Whether at least this share was promised: then few hits are a miss. Otherwise at
            most this share was, and many are.

    Raises:
        ConfigError: If an argument is out of range.
    """
    if not 0 <= hits <= of:
        raise ConfigError(f"A promise was to be judged by {hits} of {of} rows; give 0 to {of}.")
    if is_least:
        return binomial_cdf(hits, of, promised)
    return binomial_cdf(of - hits, of, 1 - promised)


def gap_differs(first: Array, second: Array) -> float:
    """Two-sided p-value of the hypothesis that two samples have the same mean.

    The test of Welch (1938) with the normal distribution, so it is for large samples. The variance
    of the difference is no less than if both samples had the variance of all rows: few rows with
    rare errors often show too few of them, or none, and then look surer than they are. Of samples
    of 50 and 1,000 rows of a model that is wrong in 3 % of them and honest about it, Welch's test
    calls 28 % different at a level of 0.1 %, this one none of 40,000.

    Args:
        first: float of shape (n,), at least one.
        second: float of shape (m,), at least one.

    Raises:
        ConfigError: If a sample has no rows, or a value is not finite.
    """
    samples = [np.asarray(one, dtype=np.float64) for one in (first, second)]
    for one in samples:
        if one.ndim != 1 or not one.size or not np.isfinite(one).all():
            raise ConfigError(
                f"Means were to be compared of values of shape {one.shape}, of which "
                f"{int(np.isfinite(one).sum())} are finite; give one finite number for each row, "
                "and at least one row."
            )
    together = np.concatenate(samples)
    if np.ptp(together) == 0:
        return 1.0
    apart = sum(_variance(one) / len(one) for one in samples)
    alike = _variance(together) * sum(1 / len(one) for one in samples)
    z = abs(float(samples[0].mean() - samples[1].mean())) / math.sqrt(max(apart, alike))
    return math.erfc(z / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order given (Holm 1979).

    With probability at least 1 - a, no hypothesis that is true has a corrected p-value of a or
    less, however the tests depend on each other.

    Args:
        p_values: Each within 0 to 1.

    Raises:
        ConfigError: If one is not, but for rounding.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not np.all((given >= -ROUNDING) & (given <= 1 + ROUNDING)):
        raise ConfigError(f"p-values are {given.tolist()}; each must be within 0 to 1.")
    order = np.argsort(given, kind="stable")
    times = np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.clip(np.maximum.accumulate(given[order] * times), 0.0, 1.0)
    return [float(one) for one in adjusted]


def _checked(reference: Array, recent: Array) -> tuple[Array, Array]:
    """Counts of the cells that are not empty in both samples, float64."""
    before, after = (np.asarray(one, dtype=np.float64) for one in (reference, recent))
    fits = before.ndim == 1 and before.shape == after.shape
    if not fits or not all(np.isfinite(v).all() and (v >= 0).all() for v in (before, after)):
        raise ConfigError(
            f"Counts of shapes {before.shape} and {after.shape} were to be compared: "
            f"{before[:10].tolist()} and {after[:10].tolist()}; give the numbers of rows in the "
            "same cells, each at least 0."
        )
    if not before.sum() or not after.sum():
        raise ConfigError(
            f"Samples of {before.sum():g} and {after.sum():g} rows were to be compared; give at "
            "least one row of each."
        )
    used = before + after > 0
    return before[used], after[used]


def _shares(counts: Array) -> Array:
    return np.asarray(counts / counts.sum())


def _numbers(values: Array) -> Array:
    """Without NaN; what is infinite becomes the largest number, which can be halved."""
    given = np.asarray(values, dtype=np.float64)
    return np.clip(given[~np.isnan(given)], -_LARGEST, _LARGEST) + 0.0


def _variance(values: Array) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _series(a: float, x: float) -> float:
    """The lower incomplete gamma function over x**a * exp(-x)."""
    term = total = 1 / a
    while term > total * _EXACT:
        a += 1
        term *= x / a
        total += term
    return total


def _fraction(a: float, x: float) -> float:
    """The upper incomplete gamma function over x**a * exp(-x), by Lentz's method."""
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    total, i, change = d, 0, 0.0
    while abs(change - 1) > 10 * _EXACT:
        i += 1
        numerator = -i * (i - a)
        b += 2
        d = 1 / (numerator * d + b or _TINY)
        c = b + numerator / c or _TINY
        change = c * d
        total *= change
    return total


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _texts(shown: Array, apart: Array) -> list[str]:
    """Short texts of numbers, rounded by a quarter of the distance of two of `apart` at most.

    So no two look the same, nor does a confidence look like 1 that others are above.
    """
    texts = [f"{one:.6g}" for one in shown.tolist()]
    steps = np.diff(apart / 2) * 2 if np.abs(apart).max() < 1 / _EXACT else np.zeros(1)
    if len(np.unique(shown)) == 1 or steps.min() < 10.0**-_DIGITS:
        return texts
    first = max(1 - math.floor(math.log10(np.ptp(shown))), 0)
    for digits in range(first, _DIGITS + 2):
        texts = [f"{one:,.{digits}f}" for one in shown.tolist()]
        if np.abs(np.round(shown, digits) - shown).max() <= steps.min() / 4:
            break
    return texts
