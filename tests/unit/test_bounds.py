"""Intervals against SciPy's, and promises on populations of which every truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats

from salver.bounds import (
    NotKept,
    Selected,
    TooFew,
    binomial_cdf,
    clopper_pearson,
    conformal_quantile,
    coverage_threshold,
    precision_threshold,
    rejection_limit,
    upper_bound,
)
from salver.errors import ConfigError

Array = np.ndarray[Any, Any]
TRIALS = 500
DOUBT = 1e-4  # how often a test of a promise that is kept may fail
SIZES = (60, 150, 300, 1000)
GRID = [
    (k, n, p)
    for n in (1, 2, 7, 60, 300, 1000, 20_000)
    for p in (1e-6, 0.003, 0.05, 0.3, 0.5, 0.9, 0.99999)
    for k in sorted({0, 1, n // 50, int(n * p), int(n * p) + 3, n // 2, n - 1, n})
    if k <= n
]


@dataclass(frozen=True)
class Population:
    """As many rows as can be drawn, each with its score and the probability that it is right."""

    scores: Array
    chances: Array

    def drawn(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Held-out rows."""
        rows = rng.integers(0, len(self.scores), n)
        return self.scores[rows], rng.random(n) < self.chances[rows]

    def precision(self, threshold: float) -> float:
        """The truth at a threshold."""
        return float(self.chances[self.scores >= threshold].mean())

    def share(self, threshold: float) -> float:
        """Of rows that are answered at a threshold."""
        return float(np.mean(self.scores >= threshold))


def calibrated(accuracy: float) -> Population:
    """Scores are the chances; the surest rows are always right."""
    v = (np.arange(5000) + 0.5) / 5000
    chances = 1 - 4 * (1 - accuracy) * v**3
    return Population(chances, chances)


def overconfident(accuracy: float) -> Population:
    """Scores are near 1, and the surest rows are not always right."""
    chances = calibrated(accuracy).chances
    return Population(chances**0.1, chances - 0.2 * (1 - accuracy))


def tied(accuracy: float) -> Population:
    """A handful of different scores."""
    chances = calibrated(accuracy).chances
    return Population(np.round(1 - np.round((1 - chances) / (1 - accuracy), 0) / 10, 6), chances)


def waved(promise: float) -> Population:
    """The precision crosses the promise again and again as the threshold falls."""
    v = (np.arange(5000) + 0.5) / 5000
    mean = promise + 0.4 * (1 - promise) * np.sin(12 * np.log(v + 0.01))
    return Population(1 - v, np.clip(np.gradient(mean * v, v), 0.0, 1.0))


def hard_top(promise: float) -> Population:
    """The very surest rows are wrong most often."""
    v = (np.arange(5000) + 0.5) / 5000
    chances = np.where(v < 0.1, promise - 0.1, np.where(v < 0.5, promise + 0.02, promise - 0.03))
    return Population(1 - v, chances)


def flat(promise: float) -> Population:
    """Scores that say nothing of rows that are nearly as often right as was promised."""
    return Population(np.arange(5000) / 5000, np.full(5000, promise - 1e-4))


def two_scores(promise: float) -> Population:
    """One tie that keeps the promise and one that spoils it."""
    spoilt = np.arange(5000) >= 3500
    return Population(np.where(spoilt, 0.2, 0.7), np.where(spoilt, promise - 0.1, promise + 0.01))


POPULATIONS: dict[str, tuple[Population, float]] = {
    "calibrated, 0.80": (calibrated(0.8), 0.95),
    "calibrated, 0.95": (calibrated(0.95), 0.97),
    "calibrated, 0.99": (calibrated(0.99), 0.993),
    "overconfident, 0.80": (overconfident(0.8), 0.9),
    "overconfident, 0.95": (overconfident(0.95), 0.96),
    "tied, 0.80": (tied(0.8), 0.9),
    "waved": (waved(0.9), 0.9),
    "hard top": (hard_top(0.9), 0.9),
    "flat": (flat(0.95), 0.95),
    "two scores": (two_scores(0.9), 0.9),
}


def most(trials: int, share: float) -> int:
    """So many broken promises are still no proof that they break too often."""
    return int(stats.binom.ppf(1 - DOUBT, trials, share))


def all_right(n: int) -> tuple[Array, Array]:
    """Rows with scores from 0.1 upwards, of which none is wrong."""
    return 0.1 + np.arange(n) / n, np.ones(n, dtype=bool)


def test_tails_are_those_of_scipy() -> None:
    """Over small and large numbers, rare and common hits."""
    found = [binomial_cdf(k, n, p) for k, n, p in GRID]
    k, n, p = (np.array(column) for column in zip(*GRID, strict=True))
    np.testing.assert_allclose(found, stats.binom.cdf(k, n, p), rtol=0, atol=1e-10)


def test_small_tails_keep_their_digits() -> None:
    """A tail of 1e-40 is not lost in what is left of 1."""
    expected = float(stats.binom.cdf(100, 1000, 0.3))
    assert 1e-40 > expected > 1e-60
    assert expected == pytest.approx(binomial_cdf(100, 1000, 0.3), rel=1e-9)


def test_tails_end_at_0_and_1() -> None:
    """Also without draws, and where a hit is certain or impossible."""
    assert (0.0, 1.0, 1.0) == tuple(binomial_cdf(k, 5, 0.3) for k in (-1, 5, 6))
    assert (1.0, 0.0, 1.0) == tuple(
        binomial_cdf(k, 5, p) for k, p in ((0, 0.0), (4, 1.0), (5, 1.0))
    )
    assert 1.0 == binomial_cdf(0, 0, 0.5)
    for n, p in ((-1, 0.5), (3, -0.1), (3, 1.1), (3, math.nan)):
        with pytest.raises(ConfigError, match="binomial_cdf was given"):
            binomial_cdf(1, n, p)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_intervals_are_those_of_scipy(level: float) -> None:
    """The exact ones, for all counts of hits."""
    for n in (1, 2, 19, 150, 5000):
        for k in {0, 1, n // 20, n // 2, n - 1, n}:
            expected = stats.binomtest(k, n).proportion_ci(level, "exact")
            found = clopper_pearson(k, n, level)
            assert (expected.low, expected.high) == pytest.approx(found, abs=1e-10)


def test_the_upper_bound_is_one_sided() -> None:
    """A quantile of a beta distribution; 1 where all rows are errors."""
    for errors, n, delta in ((0, 45, 0.1), (3, 200, 0.05), (40, 41, 0.01), (1, 100_000, 0.3)):
        expected = stats.beta.ppf(1 - delta, errors + 1, n - errors)
        assert expected == pytest.approx(upper_bound(errors, n, delta), abs=1e-10)
    assert 1.0 == upper_bound(7, 7, 0.1)


def test_intervals_of_nothing_and_of_impossible_counts_are_refused() -> None:
    """No rows prove nothing; more hits than draws are a mistake."""
    for ask in (lambda: clopper_pearson(0, 0), lambda: upper_bound(0, 0, 0.1)):
        with pytest.raises(TooFew, match="at least 1 row"):
            ask()
    for ask in (lambda: clopper_pearson(4, 3), lambda: upper_bound(-1, 3, 0.1)):
        with pytest.raises(ConfigError, match="of 3 rows"):
            ask()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", POPULATIONS)
def test_a_promised_precision_is_kept(name: str, n: int) -> None:
    """Over many draws of held-out rows, by the truth of the population."""
    population, promise = POPULATIONS[name]
    rng = np.random.default_rng(n)
    broken = 0
    for _ in range(TRIALS):
        try:
            found = precision_threshold(*population.drawn(rng, n), promise)
        except (TooFew, NotKept):
            continue
        assert found.bound >= promise
        broken += population.precision(found.threshold) < promise
    assert broken <= most(TRIALS, 0.1)


@pytest.mark.parametrize(
    ("name", "promise", "n", "least"),
    [
        ("calibrated, 0.80", 0.95, 1000, 0.50),
        ("calibrated, 0.80", 0.90, 150, 0.50),
        ("calibrated, 0.95", 0.95, 300, 0.75),
        ("calibrated, 0.99", 0.95, 60, 0.70),
        ("overconfident, 0.80", 0.90, 1000, 0.40),
        ("tied, 0.80", 0.90, 1000, 0.50),
    ],
)
def test_many_rows_are_answered(name: str, promise: float, n: int, least: float) -> None:
    """A promise that is kept by silence is of no use."""
    population, _ = POPULATIONS[name]
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(100):
        try:
            found = precision_threshold(*population.drawn(rng, n), promise)
            shares.append(population.share(found.threshold))
        except NotKept:
            shares.append(0.0)
    assert np.mean(shares) >= least


def test_a_good_model_answers_everything() -> None:
    """From 45 rows on for 95 % at 90 % confidence: 0.95 ** 45 is the first power below 0.1."""
    scores, right = all_right(45)
    found = precision_threshold(scores, right, 0.95)
    assert Selected(0.0, 1.0, 1.0, pytest.approx(0.1 ** (1 / 45))) == found
    assert -0.9 == precision_threshold(scores - 1, right, 0.95).threshold
    with pytest.raises(TooFew, match="on 44 held-out rows; this needs at least 45 rows, all right"):
        precision_threshold(scores[1:], right[1:], 0.95)


def test_rows_that_just_suffice_pass_in_spite_of_rounding() -> None:
    """1 - 0.9 is a little less than the 0.1 that one right row leaves."""
    assert 1.0 == precision_threshold(*all_right(1), 0.1).answered
    assert 1.0 == precision_threshold(*all_right(2), 0.5, 0.75).answered


def test_one_wrong_row_ends_a_walk_that_had_no_row_to_spare() -> None:
    """Of 46 rows the surest 45 are answered if the last is wrong, and none if another is."""
    scores, right = all_right(46)
    right[0] = False
    found = precision_threshold(scores, right, 0.95)
    assert (45 / 46, 1.0) == (found.answered, found.precision)
    assert scores[:2].mean() == pytest.approx(found.threshold)
    with pytest.raises(NotKept, match=r"surest 46 of 46 rows are right 97\.83 % of the time"):
        precision_threshold(scores, np.roll(right, 1), 0.95)


def test_a_later_start_forgives_an_early_error() -> None:
    """The surest row is wrong, and 400 right ones follow."""
    scores, right = all_right(401)
    right[-1] = False
    assert 1.0 == precision_threshold(scores, right, 0.95).answered


def test_a_bound_is_that_of_the_level_which_passed() -> None:
    """A walk from the first start has its third of the doubt; from the second on, all of it."""
    scores, right = all_right(201)
    right[:111] = False
    assert 90 / 201 == precision_threshold(scores, right, 0.95).answered
    bound = 1 - upper_bound(0, 90, 0.1 / 3)
    assert bound == pytest.approx(precision_threshold(scores, right, 0.95).bound, abs=1e-10)
    bound = 1 - upper_bound(0, 201, 0.1)
    assert bound == pytest.approx(precision_threshold(*all_right(201), 0.95).bound, abs=1e-10)


def test_a_bad_model_keeps_no_promise() -> None:
    """And the message says how right it is."""
    scores, right = all_right(60)
    with pytest.raises(NotKept, match="the surest 45 of 60 rows are right only 0 % of the time"):
        precision_threshold(scores, ~right, 0.95)


def test_a_tie_is_answered_as_a_whole() -> None:
    """Whatever the order of its rows, and whichever of them are right."""
    scores = np.repeat([0.9, 0.5, 0.1], [60, 20, 20])
    right = np.ones(100, dtype=bool)
    right[60:80:2] = False
    first = precision_threshold(scores, right, 0.95)
    assert (0.7, 0.6) == (pytest.approx(first.threshold), first.answered)
    mixed = np.random.default_rng(0).permutation(100)
    assert first == precision_threshold(scores[mixed], right[mixed], 0.95)
    same = np.full(100, 0.5)
    assert 1.0 == precision_threshold(same, np.arange(100) > 0, 0.95).answered
    with pytest.raises(NotKept, match="the surest 100 of 100 rows are right only 90 %"):
        precision_threshold(same, right, 0.95)


def test_the_order_of_rows_and_the_scale_of_scores_do_not_count() -> None:
    """Only which rows are surer than which."""
    scores, right = calibrated(0.8).drawn(np.random.default_rng(3), 300)
    mixed = np.random.default_rng(0).permutation(300)
    found = precision_threshold(scores, right, 0.9)
    assert found == precision_threshold(scores[mixed], right[mixed], 0.9)
    stretched = precision_threshold(1e6 * scores**3, right, 0.9)
    assert (found.answered, found.bound) == (stretched.answered, stretched.bound)


def test_a_threshold_parts_floats_that_have_nothing_between_them() -> None:
    """It must not fall on the lower one."""
    low = 0.5
    high = float(np.nextafter(low, 1.0))
    scores = np.repeat([high, low], 50)
    found = precision_threshold(scores, scores > low, 0.95)
    assert (high, 0.5) == (found.threshold, found.answered)
    largest = np.repeat([1.7e308, 1.6e308], 50)
    assert 1.65e308 == pytest.approx(precision_threshold(largest, scores > low, 0.95).threshold)


Limit = Callable[[Array], Any]
LIMITS: dict[str, Limit] = {
    "precision": lambda scores: precision_threshold(scores, np.ones(np.shape(scores), bool), 0.9),
    "coverage": lambda scores: coverage_threshold(scores, 0.9),
    "sets": lambda scores: conformal_quantile(scores, 0.9),
    "novelty": lambda scores: rejection_limit(scores, 0.1),
}


@pytest.mark.parametrize("name", LIMITS)
def test_scores_are_finite_numbers_one_for_each_row(name: str) -> None:
    """The first that is not is named."""
    for odd in (math.nan, math.inf, -math.inf):
        with pytest.raises(ConfigError, match=f"1 of 100 scores are not finite, .* {odd} in row 7"):
            LIMITS[name](np.where(np.arange(100) == 7, odd, 0.5))
    with pytest.raises(ConfigError, match=r"shape \(50, 2\)"):
        LIMITS[name](np.ones((50, 2)))


@pytest.mark.parametrize(
    ("name", "needed"), [("precision", 22), ("coverage", 22), ("sets", 9), ("novelty", 9)]
)
def test_so_many_rows_are_needed_and_not_one_more(name: str, needed: int) -> None:
    """The message says how many; no rows at all are too few as well."""
    scores = np.arange(needed) / needed
    LIMITS[name](scores)
    for few in (scores[1:], np.empty(0)):
        with pytest.raises(TooFew, match=f"on {len(few)} held-out rows; .* least {needed} rows"):
            LIMITS[name](few)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_certainty_cannot_be_promised(share: float) -> None:
    """Nor what is no share at all."""
    scores, right = all_right(100)
    asked: list[Callable[[], Any]] = [
        lambda: precision_threshold(scores, right, share),
        lambda: precision_threshold(scores, right, 0.9, share),
        lambda: coverage_threshold(scores, share),
        lambda: coverage_threshold(scores, 0.9, share),
        lambda: conformal_quantile(scores, share),
        lambda: rejection_limit(scores, share),
        lambda: clopper_pearson(1, 3, share),
        lambda: upper_bound(1, 3, share),
    ]
    for ask in asked:
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            ask()


def test_each_row_is_right_or_not() -> None:
    """One bool for each score."""
    scores, right = all_right(60)
    for odd in (right[1:], right.astype(float), right[:, None]):
        with pytest.raises(ConfigError, match="give one bool for each of the 60 scores"):
            precision_threshold(scores, odd, 0.9)


@pytest.mark.parametrize("n", [60, 150, 1000])
@pytest.mark.parametrize("name", ["calibrated, 0.80", "tied, 0.80"])
def test_a_promised_coverage_is_kept(name: str, n: int) -> None:
    """Over many draws of held-out rows, and without giving away much."""
    population, _ = POPULATIONS[name]
    rng = np.random.default_rng(n)
    found = [coverage_threshold(population.drawn(rng, n)[0], 0.9) for _ in range(TRIALS)]
    shares = np.array([population.share(one.threshold) for one in found])
    assert np.sum(shares < 0.9) <= most(TRIALS, 0.1)
    assert np.sum(shares < [one.bound for one in found]) <= most(TRIALS, 0.1)
    assert all(one.bound >= 0.9 for one in found)
    if name.startswith("calibrated"):
        assert shares.mean() <= 0.9 + 3.5 * math.sqrt(0.09 / n)


def test_the_rank_of_a_covering_threshold_is_the_largest_that_is_allowed() -> None:
    """By the beta distribution of an order statistic, for each number of rows."""
    for n in (29, 30, 59, 100, 473):
        scores = np.random.default_rng(n).permutation(np.arange(n, dtype=float))
        kept = [r for r in range(1, n + 1) if stats.beta.cdf(0.1, r, n - r + 1) >= 0.95]
        found = coverage_threshold(scores, 0.9, 0.95)
        assert max(kept) - 1 == n - round(found.answered * n)
        assert found.threshold == max(max(kept) - 1.5, 0.0)


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (60, 0.9), (150, 0.95), (333, 0.8)])
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_set_holds_the_truth_as_often_as_promised(n: int, coverage: float, is_tied: bool) -> None:
    """And a row like the others is called novel as seldom; one later row for each draw."""
    rng = np.random.default_rng(n)
    trials = 4000
    values = rng.gamma(2.0, size=(trials, n + 1))
    if is_tied:
        values = np.round(values)
    held_out, later = values[:, :n], values[:, n]
    limits = np.array([conformal_quantile(one, coverage) for one in held_out])
    assert np.sum(later > limits) <= most(trials, 1 - coverage)
    if not is_tied:
        expected = math.ceil((n + 1) * coverage - 1e-9) / (n + 1)
        assert np.sum(later > limits) >= stats.binom.ppf(DOUBT, trials, 1 - expected)
    share = round(1 - coverage, 6)
    assert limits.tolist() == [rejection_limit(one, share) for one in held_out]


def test_a_set_takes_the_rank_that_the_formula_says() -> None:
    """The ceil((n + 1) * coverage)-th smallest, in whatever order the rows come."""
    values = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    ranks = {0.07: 7.0, 0.5: 50.0, 0.9: 90.0, 0.901: 91.0, 0.99: 99.0}
    assert ranks == {coverage: conformal_quantile(values, coverage) for coverage in ranks}
    assert 95.0 == rejection_limit(values, 0.05)
    with pytest.raises(TooFew, match="at least 999 rows"):
        conformal_quantile(values, 0.999)
