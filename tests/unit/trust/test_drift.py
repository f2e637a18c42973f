"""Distances and p-values against SciPy's and those of papers, and false alarms by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from salver.errors import ConfigError
from salver.trust.drift import (
    binned,
    chance,
    chi_square_tail,
    cuts_of,
    gap_differs,
    holm,
    jensen_shannon_distance,
    misses,
    population_stability_index,
    range_names,
)

Array = np.ndarray[Any, Any]
TRIALS = 20_000
DOUBT = 1e-3  # how often a test of a level that is kept may fail
SHARES = (0.6, 0.3, 0.09, 0.01)


def counted(*rows: int) -> Array:
    return np.array(rows)


def is_kept(alarms: int, trials: int, level: float) -> bool:
    """Whether so many false alarms are compatible with a level."""
    return bool(stats.binom.sf(alarms - 1, trials, level) > DOUBT)


def of_classes(random: np.random.Generator, n: int, shares: tuple[float, ...] = SHARES) -> Array:
    return random.multinomial(n, shares)


def confidences(random: np.random.Generator, n: int, modesty: float = 0.12) -> Array:
    """Skewed as those of a good classifier are: most are near 1."""
    return 1 - random.beta(1, 1 / modesty - 1, n)


def test_population_stability_index_is_the_sum_of_the_books() -> None:
    """By hand: shares of .5 and .5 against .2 and .8."""
    expected = 0.3 * math.log(0.5 / 0.2) + 0.3 * math.log(0.8 / 0.5)
    found = population_stability_index(counted(50, 50), counted(40, 160))
    assert expected == pytest.approx(found, rel=1e-12)
    assert population_stability_index(counted(1, 2, 3), counted(10, 20, 30)) == pytest.approx(0)


def test_an_empty_cell_counts_as_half_a_row() -> None:
    """Where both are empty it counts as nothing."""
    found = population_stability_index(counted(0, 60, 40), counted(5, 55, 40))
    p, q = np.array([0.5, 60, 40]) / 100.5, np.array([5, 55, 40]) / 100
    assert float(((q - p) * np.log(q / p)).sum()) == pytest.approx(found, rel=1e-12)
    assert found == population_stability_index(counted(0, 60, 0, 40), counted(5, 55, 0, 40))


def test_distances_are_the_same_both_ways() -> None:
    """Reference and recent rows can change places."""
    a, b = counted(0, 3, 90, 7), counted(400, 30, 0, 70)
    for distance in (population_stability_index, jensen_shannon_distance, chance):
        assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-12)


def test_jensen_shannon_distance_is_that_of_scipy() -> None:
    """To base 2, for a hundred pairs of samples with empty cells among them."""
    random = np.random.default_rng(0)
    for _ in range(100):
        a, b = random.poisson(2, (2, 6)) + counted(1, 0, 0, 0, 0, 0)
        expected = float(jensenshannon(a, b, base=2))
        assert expected == pytest.approx(jensen_shannon_distance(a, b), abs=1e-9)


def test_jensen_shannon_distance_is_0_for_equal_shares_and_1_without_a_common_cell() -> None:
    """The ends of its range are reached and not passed."""
    assert jensen_shannon_distance(counted(3, 7, 1), counted(3, 7, 1)) == 0.0
    assert jensen_shannon_distance(counted(3, 7, 0), counted(0, 0, 9)) == 1.0


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 10, 49, 200, 3001])
def test_tails_of_chi_square_are_those_of_scipy(freedom: int) -> None:
    """To ten digits, from near certainty down to 1e-300."""
    for quantile in (1 - 1e-9, 0.9, 0.5, 0.3, 0.05, 1e-3, 1e-10, 1e-50, 1e-200, 1e-300):
        at = float(stats.chi2.isf(quantile, freedom))
        for statistic in (at, 0.99 * at, float(freedom), freedom + 2.0):
            expected = float(stats.chi2.sf(statistic, freedom))
            found = chi_square_tail(statistic, freedom)
            assert found == pytest.approx(expected, rel=1e-10, abs=1e-307), (statistic, freedom)


def test_tails_of_chi_square_end_at_1_and_0() -> None:
    """Nothing is beyond infinity, and all is beyond 0."""
    assert chi_square_tail(0.0, 3) == 1.0
    assert chi_square_tail(5e-324, 3) == 1.0
    assert chi_square_tail(1e5, 3) == 0.0
    assert chi_square_tail(math.inf, 3) == 0.0


def test_chance_is_pearsons_test_of_scipy() -> None:
    """Where every cell has enough rows; from common to very rare differences."""
    random = np.random.default_rng(1)
    for shift in (0.0, 0.1, 0.3):
        for n in (309, 1000, 50_000):
            a = of_classes(random, n, (0.5, 0.3, 0.2))
            b = of_classes(random, 1000, (0.5 - shift, 0.3, 0.2 + shift))
            expected = stats.chi2_contingency([a, b], correction=False).pvalue
            assert float(expected) == pytest.approx(chance(a, b), rel=1e-9)


def test_rare_cells_are_tested_together() -> None:
    """Cells that expect fewer than 5 rows of the smaller sample, and no others, are one cell."""
    a, b = counted(3, 500, 1, 296, 2), counted(2, 60, 4, 32, 2)
    # 14 rows in the rare cells, of which 1.6 are expected of the smaller sample: one more joins.
    expected = stats.chi2_contingency([[500, 302], [60, 40]], correction=False).pvalue
    assert float(expected) == pytest.approx(chance(a, b), rel=1e-9)
    a, b = counted(20, 500, 15, 296), counted(2, 60, 4, 32)
    expected = stats.chi2_contingency([[500, 35, 296], [60, 6, 32]], correction=False).pvalue
    assert float(expected) != pytest.approx(chance(a, b), rel=1e-9)  # 4.8 of 6: one joins
    a, b = counted(30, 500, 25, 296), counted(2, 60, 4, 32)
    expected = stats.chi2_contingency([[500, 55, 296], [60, 6, 32]], correction=False).pvalue
    assert float(expected) == pytest.approx(chance(a, b), rel=1e-9)


def test_chance_of_one_cell_is_1() -> None:
    """Where all is alike, or there are too few rows to tell, nothing is unlikely."""
    assert chance(counted(100), counted(7)) == 1.0
    assert chance(counted(4, 0), counted(0, 4)) == 1.0
    assert chance(counted(1000, 0), counted(0, 4)) == 1.0


@pytest.mark.parametrize("n", [309, 1000])
@pytest.mark.parametrize("level", [0.05, 0.001])
def test_alike_classes_are_called_different_as_seldom_as_promised(n: int, level: float) -> None:
    """Over 20,000 pairs of samples with a rare class."""
    random = np.random.default_rng(2)
    alarms = sum(
        chance(of_classes(random, n), of_classes(random, 1000)) < level for _ in range(TRIALS)
    )
    assert is_kept(alarms, TRIALS, level)
    assert alarms > TRIALS * level / 4  # a test that never rejects keeps any level


@pytest.mark.parametrize("n", [309, 1000])
def test_alike_confidences_are_called_different_as_seldom_as_promised(n: int) -> None:
    """Over 20,000 pairs of samples, in ranges of the reference."""
    random = np.random.default_rng(3)
    found = np.array(
        [
            chance(*binned(confidences(random, n), confidences(random, 1000))[1:])
            for _ in range(TRIALS)
        ]
    )
    for level in (0.05, 0.001):
        assert is_kept(int((found < level).sum()), TRIALS, level)
        assert (found < level).sum() > TRIALS * level / 4


@pytest.mark.parametrize("n", [309, 1000])
def test_a_shift_is_nearly_always_seen(n: int) -> None:
    """A class twice as frequent, and lower confidences, in 98 of 100 samples at least."""
    random = np.random.default_rng(4)
    classes = [
        chance(of_classes(random, n, (0.6, 0.3, 0.1)), of_classes(random, 1000, (0.5, 0.3, 0.2)))
        for _ in range(500)
    ]
    sure = [
        chance(*binned(confidences(random, n), confidences(random, 1000, 0.2))[1:])
        for _ in range(500)
    ]
    for found in (classes, sure):
        assert np.mean(np.array(found) < 0.05) >= 0.98
    assert np.mean(np.array(sure) < 0.001) >= 0.98


def test_ranges_hold_equally_many_rows_of_the_reference() -> None:
    """Every row is in one, NaN in none, and names are in rising order."""
    random = np.random.default_rng(5)
    reference, recent = random.random(1000), 1.2 * random.random(500)
    reference[:100] = np.nan
    names, before, after = binned(reference, recent)
    assert before.tolist() == [90] * 10
    assert after.sum() == 500
    assert names[0].startswith("up to 0.")
    assert names[-1].startswith("above 0.")
    starts = [float(name.split(" to ")[0]) for name in names[1:-1]]
    assert starts == sorted(set(starts))
    held = [np.sum((recent > a) & (recent <= b)) for a, b in pairwise(starts)]
    assert np.abs(np.array(held) - after[1:-2]).max() <= 10  # names are rounded


def test_a_cut_lies_half_way_between_two_values() -> None:
    """Whatever their order, so that neither range is wider by chance."""
    assert cuts_of(np.array([4.0, 1.0, 3.0, 2.0]), 2).tolist() == [2.5]
    assert cuts_of(np.array([1.0, 2.0, 4.0, 8.0]), 4).tolist() == [1.5, 3.0, 6.0]


def test_ranges_have_the_names_that_people_would_give_them() -> None:
    """Two digits where these tell them apart, more where not, none for whole numbers."""
    assert range_names(np.array([0.42, 0.57, 0.99]), np.array([0.5])) == [
        "up to 0.42",
        "0.42 to 0.57",
        "0.57 to 0.99",
        "above 0.99",
    ]
    assert range_names(np.array([0.42, 0.9991, 0.9996]), np.array([0.5]))[-2:] == [
        "0.9991 to 0.9996",
        "above 0.9996",
    ]
    assert range_names(np.array([0.42, 0.9996]), np.array([0.3, 1.0]))[-1] == "above 0.9996"
    assert range_names(np.array([12.5, 25.0, 1200.0]), np.array([3.0, 4.0])) == [
        "up to 12",
        "13 to 25",
        "26 to 1,200",
        "above 1,200",
    ]


def test_a_value_that_fills_a_range_has_one_of_its_own() -> None:
    """Half of the rows are 0: what is below, at and above it is told apart."""
    random = np.random.default_rng(6)
    reference = np.append(np.zeros(500), 0.1 + random.random(500))
    names, before, after = binned(reference, np.array([-0.5] * 50 + [0.0] * 50 + [0.05] * 50))
    assert names[:2] == ["below 0.00", "0.00"]
    assert before[:2].tolist() == [0, 500]
    assert after[:3].tolist() == [50, 50, 50]
    assert before.sum() == 1000


@pytest.mark.parametrize(
    ("value", "names"),
    [(0.9734, ["below 0.9734", "0.9734", "above 0.9734"]), (12.0, ["below 12", "12", "above 12"])],
)
def test_of_a_constant_there_is_below_at_and_above(value: float, names: list[str]) -> None:
    """For as few as two rows and as many as a thousand."""
    for n in (2, 50, 1000):
        recent = np.array([value - 1, value - 2, value, value + 1])
        assert binned(np.full(n, value), recent)[0] == names
        assert binned(np.full(n, value), recent)[1].tolist() == [0, n, 0]
        assert binned(np.full(n, value), recent)[2].tolist() == [2, 1, 1]


def test_small_samples_have_fewer_ranges() -> None:
    """Thirty rows of the smaller sample for each, and two ranges at least."""
    random = np.random.default_rng(7)
    for n, m, expected in ((1000, 1000, 10), (309, 1000, 10), (1000, 150, 5), (50, 1000, 2)):
        names, before, after = binned(random.random(n), random.random(m))
        assert len(names) == len(before) == len(after) == expected


def test_equal_values_stay_together() -> None:
    """Few different values make fewer ranges, each of them one value."""
    names, before, _ = binned(np.repeat([1.0, 2.0, 3.0, 4.0], 100), np.array([1.0, 4.0] * 200))
    assert names == ["1", "2", "3", "4"]
    assert before.tolist() == [100] * 4


@pytest.mark.filterwarnings("error")
def test_numbers_that_are_odd_are_counted_all_the_same() -> None:
    """Infinite, huge, tiny and neighbouring ones each are in a range."""
    odd = np.array([-np.inf, -1e308, -1e-320, -0.0, 0.0, 1.0, np.nextafter(1, 2), 1e308, np.inf])
    for reference in (np.tile(odd, 40), odd, np.tile(odd[5:7], 100), np.full(100, np.inf)):
        names, before, after = binned(reference, odd)
        assert before.sum() == len(reference)
        assert after.sum() == len(odd)
        assert len(names) == len(before)


@pytest.mark.parametrize("promised", [0.01, 0.5, 0.95])
@pytest.mark.parametrize("of", [1, 60, 1000])
def test_a_miss_is_as_unlikely_as_scipy_says(of: int, promised: float) -> None:
    """Few hits speak against a least share, many against a largest one."""
    for hits in sorted({0, 1, of // 3, round(of * promised), of - 1, of}):
        for is_least, side in ((True, "less"), (False, "greater")):
            expected = float(stats.binomtest(hits, of, promised, side).pvalue)
            found = misses(hits, of, promised, is_least)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-75)


def test_without_rows_no_promise_is_missed() -> None:
    """Nothing that was seen speaks against it."""
    assert misses(0, 0, 0.9, is_least=True) == 1.0
    assert misses(0, 0, 0.1, is_least=False) == 1.0


def test_a_difference_of_means_is_judged_as_by_welch_or_student() -> None:
    """By the more cautious of the two, of large samples, whichever mean is the larger."""
    random = np.random.default_rng(8)
    for n, m in ((40_000, 60_000), (60_000, 40_000)):
        a, b = random.normal(0, 1, n), random.normal(0.03, 3, m)
        by_welch, by_student = (
            stats.ttest_ind(a, b, equal_var=one).pvalue for one in (False, True)
        )
        assert (by_welch < by_student) == (n < m)
        assert max(by_welch, by_student) == pytest.approx(gap_differs(a, b), rel=1e-3)
        assert gap_differs(a, b) == gap_differs(b, a)


def test_samples_without_spread_can_be_compared() -> None:
    """Equal constants are equal; constants apart differ the more surely, the more rows there are."""
    assert gap_differs(np.full(50, 0.3), np.full(80, 0.3)) == 1.0
    assert gap_differs(np.full(50, 0.3), np.full(80, 0.4)) < 1e-9
    assert gap_differs(np.array([0.3]), np.array([0.4])) > 0.3
    assert gap_differs(np.array([0.3]), np.append(np.full(999, 0.3), 0.4)) > 0.3


@pytest.mark.parametrize(("n", "m"), [(1000, 1000), (309, 1000), (50, 1000), (1000, 50)])
def test_honest_confidence_is_called_dishonest_as_seldom_as_promised(n: int, m: int) -> None:
    """Over 5,000 pairs of samples of a calibrated model, also where one sample is small."""
    random = np.random.default_rng(9)

    def gaps(rows: int) -> Array:
        sure = confidences(random, rows)
        return np.asarray(sure - (random.random(rows) < sure))

    found = np.array([gap_differs(gaps(n), gaps(m)) for _ in range(5000)])
    assert is_kept(int((found < 0.001).sum()), 5000, 0.001)
    assert np.mean(found < 0.05) < 0.07


def test_overconfidence_is_nearly_always_seen() -> None:
    """Where confidence is .15 too high in the second of two samples of 309 and 1,000 rows."""
    random, seen = np.random.default_rng(10), 0
    for _ in range(500):
        a, b = confidences(random, 309), confidences(random, 1000)
        right = random.random(309) < a, random.random(1000) < b - 0.15
        seen += gap_differs(a - right[0], b - right[1]) < 0.001
    assert seen >= 0.98 * 500


def test_holms_correction_is_that_of_the_paper() -> None:
    """Times the number of hypotheses that are left, never falling, never above 1."""
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holms_correction_keeps_its_level_for_all_hypotheses_together() -> None:
    """Of 20,000 families of ten true hypotheses, 5 % have any that is rejected."""
    families = np.random.default_rng(11).random((TRIALS, 10))
    wrong = sum(min(holm(one)) <= 0.05 for one in families.tolist())
    assert is_kept(wrong, TRIALS, 0.05)
    assert wrong > 0.04 * TRIALS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chance(counted(1, 2), counted(1, 2, 3)), r"shapes \(2,\) and \(3,\)"),
        (lambda: chance(counted(1, -2), counted(1, 2)), "each at least 0"),
        (lambda: population_stability_index(counted(0, 0), counted(1, 2)), "at least one row"),
        (lambda: jensen_shannon_distance(counted(), counted()), "at least one row"),
        (lambda: chance(np.array([np.nan, 1]), counted(1, 2)), "each at least 0"),
        (lambda: chi_square_tail(math.nan, 3), "statistic of at least 0"),
        (lambda: chi_square_tail(1.0, 0), "freedom of at least 1"),
        (lambda: binned(np.array([np.nan]), np.array([1.0])), "0 and 1 numbers"),
        (lambda: binned(np.array([1.0]), np.array([1.0]), bins=1), "2 or more"),
        (lambda: cuts_of(np.array([1.0]), 0), "2 or more"),
        (lambda: misses(5, 4, 0.9, is_least=True), "5 of 4"),
        (lambda: misses(4, 5, 1.1, is_least=True), "within 0 to 1"),
        (lambda: gap_differs(np.array([]), np.array([1.0])), "at least one row"),
        (lambda: gap_differs(np.array([np.nan]), np.array([1.0])), "0 are finite"),
        (lambda: holm([0.5, 1.2]), "within 0 to 1"),
        (lambda: holm([math.nan]), "within 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[], object], message: str) -> None:
    """The error says what was given and what is wanted."""
    with pytest.raises(ConfigError, match=message):
        call()
