"""What held-out rows can prove: intervals of a share, and limits that keep a promise.

All of it holds for finite samples, as long as later rows are drawn like the held-out ones and
independently of each other. This module does not know what a score means, nor whether later rows
have drifted away. A model that was tuned on the held-out rows makes every number here too good.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from salver.errors import ConfigError

Array = np.ndarray[Any, Any]
APART = 3  # each start of a search has so many times the rows of the one before
ROUNDING = 1e-9  # allowed to floats: 1 - 0.9 is not below 0.1, and 100 * 0.07 is 7 rows, not 8


class TooFew(ConfigError):
    """Fewer held-out rows than a promise needs, however good they are."""

    code = "too_few_rows"


class NotKept(ConfigError):
    """Enough held-out rows, but the model does not keep the promise on them."""

    code = "promise_not_kept"


@dataclass(frozen=True, slots=True)
class Selected:
    """A threshold that keeps a precision; rows with at least this score are answered.

    Attributes:
        threshold: In units of the scores.
        answered: Share of the held-out rows that are answered.
        precision: Share of right rows among those; a point estimate.
        bound: Lower bound of the true precision, at the level of the test that chose the threshold.
    """

    threshold: float
    answered: float
    precision: float
    bound: float


@dataclass(frozen=True, slots=True)
class Covered:
    """A threshold that keeps a coverage; rows with at least this score are answered.

    Attributes:
        threshold: In units of the scores.
        answered: Share of the held-out rows that are answered.
        bound: Lower bound of the true share.
    """

    threshold: float
    answered: float
    bound: float


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Probability of at most `k` hits in `n` draws.

    Terms are relative to the largest and divided by their sum, so that no factorial loses digits.

    Args:
        k: Hits; below 0 gives 0.
        n: Draws, at least 0.
        p: Probability of a hit, 0 to 1.

    Raises:
        ConfigError: `n` or `p` is out of range.
    """
    if n < 0 or not 0 <= p <= 1:
        raise ConfigError(
            f"binomial_cdf was given n={n} and p={p}; it takes n >= 0 and p within 0 to 1."
        )
    if k < 0 or k >= n or p in (0.0, 1.0):
        return float(k >= n or (k >= 0 and p == 0))
    mode = min(n, int((n + 1) * p))
    width = int(20 * math.sqrt(n * p * (1 - p))) + 100
    low, high = max(0, mode - width), min(n, mode + width)
    if not low <= k < high:  # all beyond is less than 1e-80
        return float(k >= high)
    i = np.arange(low + 1, high + 1, dtype=np.float64)
    steps = np.log(n - i + 1) - np.log(i) + (math.log(p) - math.log1p(-p))
    below = np.cumsum(steps[: mode - low][::-1])[::-1]
    terms = np.exp(np.concatenate([-below, [0.0], np.cumsum(steps[mode - low :])]))
    return min(1.0, float(terms[: k - low + 1].sum() / terms.sum()))


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval (low, high) of the probability of a hit (Clopper & Pearson 1934).

    Args:
        k: Hits, 0 to `n`.
        n: Draws.
        level: With which the interval holds the truth, between 0 and 1.

    Raises:
        ConfigError: A number is out of range; `TooFew` without draws.
    """
    _check_shares(level=level)
    tail = (1 - level) / 2
    return 1 - upper_bound(n - k, n, tail), upper_bound(k, n, tail)


def upper_bound(errors: int, n: int, delta: float) -> float:
    """Upper bound of the probability of an error, wrong with probability at most `delta`.

    The largest probability under which so few errors are not rarer than `delta` (Clopper & Pearson
    1934, one side).

    Args:
        errors: 0 to `n`.
        n: Rows.
        delta: Between 0 and 1.

    Raises:
        ConfigError: A number is out of range; `TooFew` without rows.
    """
    _check_shares(delta=delta)
    if n == 0:
        raise TooFew("A bound was asked of 0 rows; it needs at least 1 row. Give more rows.")
    if not 0 <= errors <= n:
        raise ConfigError(f"A bound was asked of {errors} of {n} rows; it takes 0 to {n} of them.")
    if errors == n:
        return 1.0
    return _bisected(lambda p: binomial_cdf(errors, n, p) > delta)


def precision_threshold(
    scores: Array, right: Array, precision: float, confidence: float = 0.9
) -> Selected:
    """The threshold with the most answers whose precision is kept.

    With probability at least `confidence` over the held-out rows, a later row that is answered is
    right with probability at least `precision`.

    Thresholds are walked from the surest rows downwards. At each the hypothesis "the precision here
    is below the promise" is tested by the binomial tail of the errors at or above it, and the walk
    goes on while it is rejected: fixed-sequence testing over a family of thresholds, as in Learn
    then Test (Angelopoulos et al. 2021). A single walk ends at an early error, so there are several
    starts, at numbers of rows that depend on `n`, `precision` and `confidence` alone: the first is
    where a row of right answers just passes, each other has three times the rows of the one before.
    They share 1 - `confidence` (Bonferroni), a later start twice as much as the one before. A walk
    that reaches the next start takes that one's share along (the fallback procedure; Wiens 2003).
    This answered most rows over calibrated, noisy and constant scores in simulation, before binary
    search with a union bound (Geifman & El-Yaniv 2017), one start, and other spacings of starts.

    Why it holds: let the precision fall below the promise at some threshold and stay below it for
    all lower ones. Given how many held-out rows lie above that threshold, their errors are
    binomial, so that the test there rejects with at most the level that was carried to it. A start
    further down lies wholly below it, where errors are as frequent at least, and adds its own share
    at most. The shares sum to 1 - `confidence`. Between two scores the tests are the same, which
    allows any threshold there. Where precision crosses the promise several times, each start alone
    keeps its level all the same; for the walks together this is not proven, only simulated.

    Args:
        scores: float64 of shape (n,): confidence of the held-out rows, larger is surer.
        right: bool of shape (n,): whether the model was right.
        precision: Promised share of right rows among those answered, between 0 and 1.
        confidence: Of the promise, between 0 and 1.

    Returns:
        A threshold half-way between neighbouring scores; 0, or the smallest score if that is
        negative, if all rows may be answered.

    Raises:
        TooFew: Even if all rows were right, they would not prove it.
        NotKept: No threshold keeps it.
        ConfigError: An argument is out of range or not a number.
    """
    _check_shares(precision=precision, confidence=confidence)
    scores, right = _checked(scores), np.asarray(right)
    if right.shape != scores.shape or (right.size and right.dtype != np.bool_):
        raise ConfigError(
            f"`right` has shape {right.shape} and dtype {right.dtype}; give one bool for each of "
            f"the {len(scores)} scores."
        )
    n, delta = len(scores), 1 - confidence
    needed = _least_rows(precision, delta)
    if n < needed:
        raise _too_few(f"A precision of {precision:g}", n, f"{needed} rows, all right,", confidence)
    order = np.argsort(-scores, kind="stable")
    ranked, wrong = scores[order], ~right[order].astype(bool)
    ends = np.append(np.flatnonzero(np.diff(ranked)) + 1, n)  # a tie is answered as a whole
    tails = _tails(wrong, 1 - precision)[ends - 1]
    best, level = _walked(ends, tails, _starts(n, precision, delta))
    if best is None:
        raise NotKept(_not_kept(wrong, ends, tails, precision, confidence))
    rows = int(ends[best])
    errors = int(wrong[:rows].sum())
    threshold = _between(ranked[rows], ranked[rows - 1]) if rows < n else min(0.0, ranked[-1])
    # Test and bound are computed in two ways, whose last digits may differ.
    bound = max(precision, 1 - upper_bound(errors, rows, level))
    return Selected(float(threshold), rows / n, 1 - errors / rows, bound)


def coverage_threshold(scores: Array, coverage: float, confidence: float = 0.9) -> Covered:
    """The largest threshold, half-way between two scores, at which enough rows are answered.

    With probability at least `confidence` over the held-out rows, a later row is answered with
    probability at least `coverage`. The share of rows below an order statistic has a beta
    distribution, whatever the scores (Wilks 1941), so its rank is read from a binomial tail.

    Args:
        scores: float64 of shape (n,): confidence of the held-out rows, larger is surer.
        coverage: Promised share of answered rows, between 0 and 1.
        confidence: Of the promise, between 0 and 1.

    Raises:
        TooFew: Not even the smallest score keeps it.
        ConfigError: An argument is out of range or not a number.
    """
    _check_shares(coverage=coverage, confidence=confidence)
    ranked = np.sort(_checked(scores))
    n, delta = len(ranked), 1 - confidence
    needed = _least_rows(coverage, delta)
    if n < needed:
        raise _too_few(f"A coverage of {coverage:g}", n, f"{needed} rows", confidence)
    low, high = 0, n - 1  # positions in `ranked`: the first one is allowed, see above
    while low < high:
        middle = (low + high + 1) // 2
        is_kept = binomial_cdf(middle, n, 1 - coverage) <= delta
        low, high = (middle, high) if is_kept else (low, middle - 1)
    chosen = ranked[low]
    left_out = int(np.searchsorted(ranked, chosen, side="left"))  # a tie is answered as a whole
    threshold = _between(ranked[left_out - 1], chosen) if left_out else chosen
    # Of the rank and not of `left_out`, as a tie may have any share of the rows to come.
    bound = max(coverage, _bisected(lambda c: binomial_cdf(low, n, 1 - c) <= delta))
    return Covered(float(threshold), 1 - left_out / n, bound)


def conformal_quantile(nonconformity: Array, coverage: float) -> float:
    """The limit of a prediction set: a class belongs to it if its nonconformity is at most this.

    The true class of a later row belongs to it with probability at least `coverage`, on average
    over held-out rows: the ceil((n + 1) * coverage)-th smallest value (split conformal prediction;
    Vovk et al. 2005, Angelopoulos & Bates 2021).

    Args:
        nonconformity: float64 of shape (n,): of the true class of held-out rows, large if strange.
        coverage: Promised share of sets that hold the true class, between 0 and 1.

    Raises:
        TooFew: (n + 1) * (1 - coverage) is below 1.
        ConfigError: An argument is out of range or not a number.
    """
    _check_shares(coverage=coverage)
    return _conformal(_checked(nonconformity), 1 - coverage, f"A set coverage of {coverage:g}")


def rejection_limit(scores: Array, share: float) -> float:
    """The limit above which a row is novel.

    A later row like the held-out ones has a score > limit with probability at most `share`, on
    average over held-out rows: its conformal p-value is at most `share` (Bates et al. 2023).

    Args:
        scores: float64 of shape (n,): of held-out rows, large if strange.
        share: Promised largest share of false alarms, between 0 and 1.

    Raises:
        TooFew: (n + 1) * share is below 1.
        ConfigError: An argument is out of range or not a number.
    """
    _check_shares(share=share)
    return _conformal(_checked(scores), share, f"A share of false rejections of {share:g}")


def _conformal(values: Array, beyond: float, promise: str) -> float:
    """The smallest value that a later one exceeds with probability at most `beyond`."""
    n = len(values)
    allowed = math.floor((n + 1) * beyond + ROUNDING)
    if allowed < 1:
        needed = math.ceil(1 / beyond - ROUNDING) - 1
        raise _too_few(promise, n, f"{needed} rows")
    return float(np.sort(values)[n - allowed])


def _too_few(promise: str, n: int, needed: str, confidence: float | None = None) -> TooFew:
    at = "" if confidence is None else f" at {_percent(confidence)} confidence"
    return TooFew(
        f"{promise} was promised on {n} held-out rows; this needs at least {needed}{at}. "
        "Give more rows, or promise less."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _check_shares(**given: float) -> None:
    for name, value in given.items():
        if not 0 < value < 1:  # NaN as well
            raise ConfigError(
                f"`{name}` was given {value:g}; it takes a number above 0 and below 1, as no "
                "number of rows can prove certainty."
            )


def _checked(scores: Array) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ConfigError(f"Scores have shape {values.shape}; give one number for each row.")
    odd = np.flatnonzero(~np.isfinite(values))
    if odd.size:
        raise ConfigError(
            f"{odd.size} of {len(values)} scores are not finite, the first is {values[odd[0]]} in "
            f"row {odd[0]}; give finite numbers, or leave such rows out."
        )
    return values


def _least_rows(share: float, delta: float) -> int:
    """How many rows must all be hits to prove a share of hits."""
    return max(1, math.ceil(math.log(delta) / math.log(share) - ROUNDING))


def _starts(n: int, precision: float, delta: float) -> dict[int, float]:
    """Numbers of rows, enough for one at least, at which walks start; levels sum to `delta`."""
    count, first, level = n.bit_length() + 1, n + 1, 0.0
    while first * APART ** (count - 1) > n:
        count -= 1
        level = delta / (2**count - 1)
        first = _least_rows(precision, level)
    return {first * APART**i: level * 2**i for i in range(count)}


def _tails(wrong: Array, p: float) -> Array:
    """For each m, the probability of at most as many errors as the first m rows have.

    One more row takes p * P(E of m) off a tail P(at most E of m); one more error adds its term. So
    all tails come from two running sums.
    """
    n = len(wrong)
    logs = np.array([math.lgamma(i + 1) for i in range(n + 1)])
    m, errors = np.arange(n + 1), np.append(0, np.cumsum(wrong))
    ways = logs[m] - logs[errors] - logs[m - errors]
    terms = np.exp(ways + errors * math.log(p) + (m - errors) * math.log1p(-p))
    return np.asarray(1 + np.cumsum(terms[1:] * wrong - p * terms[:-1]))


def _walked(ends: Array, tails: Array, starts: dict[int, float]) -> tuple[int | None, float]:
    """The last position of `ends` that is rejected, and the level of that test.

    `ends` are rows at or above each threshold, `tails` how likely so few errors are there if the
    promise is just kept, and `starts` the levels that become available at a number of rows.
    """
    places = np.searchsorted(ends, list(starts))  # a tie may reach beyond a start, even several
    added = np.bincount(places, list(starts.values()), len(ends))
    best, best_level, level = None, 0.0, 0.0
    for at, (tail, more) in enumerate(zip(tails.tolist(), added.tolist(), strict=True)):
        level += more
        if tail > level * (1 + ROUNDING):
            level = 0.0
        elif level:
            best, best_level = at, level
    return best, best_level


def _not_kept(wrong: Array, ends: Array, tails: Array, precision: float, confidence: float) -> str:
    """Says what the rows show where they come nearest to the promise."""
    tails = np.where(ends < _least_rows(precision, 1 - confidence), np.inf, tails)
    rows = int(ends[np.argmin(tails)])
    errors = int(wrong[:rows].sum())
    shown = 1 - upper_bound(errors, rows, 1 - confidence)
    only = "only " if errors > (1 - precision) * rows else ""
    no_more = f"proves no more than {_percent(shown)}"
    proven = no_more if shown < precision else "is no proof for a threshold that was searched for"
    return (
        f"A precision of {precision:g} was promised at {_percent(confidence)} confidence, but no "
        f"threshold keeps it: the surest {rows} of {len(wrong)} rows are right {only}"
        f"{_percent(1 - errors / rows)} of the time, which {proven}. "
        "Promise less, or give more rows, a better model or a better score."
    )


def _between(low: float, high: float) -> float:
    """Half-way, but above `low`: neighbouring floats have nothing between them."""
    middle = low / 2 + high / 2
    return middle if middle > low else high


def _bisected(is_below: Callable[[float], bool]) -> float:
    """Where a condition that holds for small numbers within 0 to 1 ends."""
    low, high = 0.0, 1.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high
