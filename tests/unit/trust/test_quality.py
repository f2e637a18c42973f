"""Measures of right and honest, against values worked out by hand and by simulation."""

from __future__ import annotations

import time
from statistics import NormalDist

import numpy as np
import pytest

from salver.errors import ConfigError
from salver.trust.quality import (
    Bin,
    Estimate,
    bootstrap,
    brier,
    calibration_error,
    checked,
    honesty,
    is_distribution,
    is_share,
    log_loss,
    macro_f1,
    reliability,
)


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of four classes, and labels drawn from them."""
    random = np.random.default_rng(seed)
    raised = np.exp(random.normal(0, 2, (rows, 4)))
    given = raised / raised.sum(axis=1, keepdims=True)
    labels = (random.random((rows, 1)) > given.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return given, labels


def test_macro_f1_is_the_plain_mean_over_classes_that_occur() -> None:
    """2/3 and 4/5 by hand; a class that is only predicted has no F1 of its own."""
    assert (2 / 3 + 4 / 5) / 2 == pytest.approx(
        macro_f1(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    )
    assert (2 / 3 + 1) / 2 == pytest.approx(
        macro_f1(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]))
    )


def test_calibration_error_weighs_each_bin_by_its_rows() -> None:
    """Two rows .3 too sure and two .1 too modest; certainty belongs to the last bin."""
    sure, right = np.array([0.8, 0.8, 0.9, 0.9]), np.array([True, False, True, True])
    assert 0.5 * 0.3 + 0.5 * 0.1 == pytest.approx(calibration_error(sure, right))
    assert 0.0 == calibration_error(np.ones(3), np.ones(3, dtype=bool))
    # Within a bin, too sure of one and too modest of the other cancel out.
    mixed = calibration_error(np.array([0.95, 1.0]), np.array([True, False]))
    assert (1.0 - 0.05) / 2 == pytest.approx(mixed)


def test_log_loss_and_brier_are_those_of_the_books_row_by_row() -> None:
    """A row that rules out the truth costs a finite log loss."""
    given = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    labels = np.array([0, 1, 0])
    assert np.log([2.0, 1.0, 1e12]).tolist() == pytest.approx(log_loss(given, labels).tolist())
    assert [0.25 + 2 * 0.0625, 0.0, 2.0] == brier(given, labels).tolist()
    assert [0.0, 1.0, 0.0] == given[1].tolist()  # what was given is not written to


def test_a_bootstrap_interval_of_a_mean_is_near_that_of_the_normal() -> None:
    """Two-sided at the level asked for."""
    sample = np.random.default_rng(1).normal(5, 2, 2000)
    for level in (0.5, 0.95):
        found = bootstrap(np.mean, sample, level=level, resamples=2000)
        reach = NormalDist().inv_cdf((1 + level) / 2) * sample.std() / np.sqrt(2000)
        assert sample.mean() == pytest.approx(found.value)
        assert sample.mean() - reach == pytest.approx(found.low, abs=0.15 * reach)
        assert sample.mean() + reach == pytest.approx(found.high, abs=0.15 * reach)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """300 samples of 80 rows: 95 %, give or take what chance does in one of 10,000 cases."""
    random, kept = np.random.default_rng(2), 0
    for _ in range(300):
        found = bootstrap(np.mean, random.normal(0, 1, 80), resamples=300)
        kept += found.low <= 0 <= found.high
    assert 265 <= kept <= 298


def test_a_bootstrap_draws_the_same_rows_of_all_arrays() -> None:
    """And the same ones again for the same seed, in chunks of draws or at once."""
    a = np.arange(50.0)
    found = bootstrap(lambda x, y: float((x - y).sum()), a, a + 1)
    assert Estimate(-50.0, -50.0, -50.0) == found
    assert bootstrap(np.mean, a) == bootstrap(np.mean, a)
    assert bootstrap(np.mean, a) != bootstrap(np.mean, a, seed=1)


def test_an_interval_holds_its_value_although_drawing_again_biases_it() -> None:
    """The largest of a sample is never passed; a calibration error near 0 only grows."""
    found = bootstrap(np.max, np.arange(10.0))
    assert found.low < found.value == found.high == 9.0
    sure = np.tile(0.75, 8000)
    found = bootstrap(calibration_error, sure, np.arange(8000) % 4 > 0)
    assert 0.0 == pytest.approx(found.low)
    assert 0.0 == pytest.approx(found.value) != found.high


def test_an_interval_of_no_rows_or_of_unlike_arrays_is_refused() -> None:
    """By name of what was given."""
    with pytest.raises(ConfigError, match=r"arrays of \[0\] rows"):
        bootstrap(np.mean, np.array([]))
    with pytest.raises(ConfigError, match=r"arrays of \[3, 4\] rows"):
        bootstrap(macro_f1, np.zeros(3), np.zeros(4))
    with pytest.raises(ConfigError, match="no rows"):
        honesty(np.empty((0, 3)), np.empty(0, dtype=int))


def test_a_calibration_error_of_5000_rows_has_its_interval_within_two_seconds() -> None:
    """Of this thread's own time, for a machine may be busy."""
    given, labels = drawn(5000)
    right = given.argmax(axis=1) == labels
    started = time.thread_time()
    bootstrap(calibration_error, given.max(axis=1), right)
    assert time.thread_time() - started < 2


def test_honesty_is_what_each_measure_says_by_itself() -> None:
    """Values exactly; intervals as `bootstrap` finds them for the same draws."""
    given, labels = drawn(700)
    sure, right = given.max(axis=1), given.argmax(axis=1) == labels
    found = honesty(given, labels)
    wanted = (
        (bootstrap(calibration_error, sure, right), found.calibration_error),
        (bootstrap(np.mean, brier(given, labels)), found.brier),
        (bootstrap(np.mean, log_loss(given, labels)), found.log_loss),
        (bootstrap(np.mean, right), found.accuracy),
    )
    for alone, together in wanted:
        assert (alone.value, alone.low, alone.high) == pytest.approx(
            (together.value, together.low, together.high), abs=1e-12
        )


def test_honesty_can_be_of_predictions_other_than_the_most_likely_class() -> None:
    """Confidence is then in the class that was named."""
    given = np.array([[0.6, 0.4], [0.6, 0.4]])
    found = honesty(given, np.array([1, 1]), predicted=np.array([1, 1]))
    assert 1.0 == found.accuracy.value
    assert 0.6 == pytest.approx(found.calibration_error.value)
    assert 0.72 == pytest.approx(found.brier.value)


def test_a_model_that_tells_the_truth_has_a_small_calibration_error() -> None:
    """And one that is too sure a large one, with every measure of probabilities worse."""
    given, labels = drawn(5000)
    sharp = given**3 / (given**3).sum(axis=1, keepdims=True)
    honest, boasting = honesty(given, labels), honesty(sharp, labels)
    assert honest.calibration_error.high < 0.04 < 0.1 < boasting.calibration_error.low
    assert honest.log_loss.high < boasting.log_loss.low
    assert honest.brier.value < boasting.brier.value
    assert honest.accuracy == boasting.accuracy


def test_reliability_tells_bin_by_bin_what_the_calibration_error_sums_up() -> None:
    """Bins without rows are left out."""
    sure = np.array([0.3, 0.35, 0.95, 1.0, 0.9])
    right = np.array([False, True, True, True, True])
    low, high = reliability(sure, right)
    assert (0.3, 0.4, 2, 0.325, 0.5) == pytest.approx(
        (low.low, low.high, low.count, low.confidence, low.right.value)
    )
    assert (0.9, 1.0, 3, 0.95, 1.0) == pytest.approx(
        (high.low, high.high, high.count, high.confidence, high.right.value)
    )
    gaps = [abs(one.confidence - one.right.value) * one.count for one in (low, high)]
    assert sum(gaps) / 5 == pytest.approx(calibration_error(sure, right))


def test_the_interval_of_a_bin_is_wilsons() -> None:
    """He has 0.2366 to 0.7634 for 5 of 10, and 0 to 0.2775 for none of 10."""
    (half,) = reliability(np.full(10, 0.55), np.arange(10) < 5)
    assert (0.23659, 0.76341) == pytest.approx((half.right.low, half.right.high), abs=1e-5)
    (none,) = reliability(np.full(10, 0.55), np.zeros(10, dtype=bool))
    assert (0.0, 0.27753) == pytest.approx((none.right.low, none.right.high), abs=1e-5)
    assert isinstance(none, Bin)
    assert none.right.low <= none.right.value


def test_a_distribution_has_shares_that_sum_to_1() -> None:
    """But for rounding; what is not a number is no share."""
    rows = np.array([[0.2, 0.8], [0.2, 0.7995], [0.2, 0.79], [0.9, 0.9], [-0.1, 1.1], [np.nan, 1]])
    assert [True, True, False, False, False, False] == is_distribution(rows).tolist()
    assert [[True, True], [False, False], [False, True]] == is_share(rows[3:]).tolist()


def test_what_is_no_probabilities_or_no_positions_is_refused() -> None:
    """With the first row that is wrong, and what to do."""
    good, labels = np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([0, 1])
    given, at = checked(good.astype(np.float32), labels.astype(np.int8))
    assert (np.float64, np.intp) == (given.dtype, at.dtype)
    for bad in ([[0.5, 0.5], [0.2, 0.9]], [[0.5, 0.5], [-0.2, 1.2]], [[0.5, 0.5], [np.nan, 0.5]]):
        with pytest.raises(ConfigError, match="Row 1 is"):
            checked(np.array(bad), labels)
    for wrong in (np.array([0, 2]), np.array([-1, 0]), np.array([0.0, 1.0])):
        with pytest.raises(ConfigError, match="positions of the 2 classes"):
            checked(good, wrong)
    for unfit in (good[:1], good[0], np.empty((2, 0))):
        with pytest.raises(ConfigError, match="of shape"):
            checked(unfit, labels)
