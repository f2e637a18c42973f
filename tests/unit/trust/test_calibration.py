"""Calibrators, and when one is used: held against models whose true probabilities are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from salver.errors import CheckpointError, ConfigError
from salver.trust.calibration import (
    Calibrator,
    Choice,
    Identity,
    Isotonic,
    Knots,
    Temperature,
    VectorScaling,
    calibrator_of,
    choose,
    confidence,
    fit_isotonic,
    fit_temperature,
    fit_vector_scaling,
)
from salver.trust.quality import honesty, log_loss

FITS = (fit_temperature, fit_vector_scaling, fit_isotonic)


def heated(given: np.ndarray, factor: float) -> np.ndarray:
    """Probabilities whose logits are multiplied: above 1, a model that is too sure."""
    logits = np.log(given) * factor
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def model(
    rows: int, seed: int = 0, *, factor: float = 1.0, classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Of a model with known faults: its probabilities, and the true labels."""
    random = np.random.default_rng(seed)
    true = heated(np.exp(random.normal(0, 2, (rows, classes))), 1.0)
    labels = (random.random((rows, 1)) > true.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return heated(true, factor), labels


def every_kind() -> list[Calibrator]:
    """One of each, fitted on a model that is too sure."""
    given, labels = model(400, factor=2.0)
    return [Identity(), *(fit(given, labels) for fit in FITS)]


def test_a_model_without_fault_keeps_its_probabilities() -> None:
    """In at least 97 of 100 cases, for each of three kinds is wrongly used in one of 100."""
    kept = sum(isinstance(choose(*model(300, seed)).calibrator, Identity) for seed in range(200))
    assert kept >= 194


def test_a_model_that_is_too_sure_is_mended() -> None:
    """Nearly always, and it holds on fresh rows: honest probabilities, and the same predictions."""
    mended = 0
    for seed in range(25):
        choice = choose(*model(600, seed, factor=2.5))
        if isinstance(choice.calibrator, Identity):
            continue
        mended += 1
        fresh, labels = model(4000, seed + 1000, factor=2.5)
        before = honesty(fresh, labels)
        after = honesty(choice.calibrator(fresh), labels, predicted=fresh.argmax(axis=1))
        assert after.calibration_error.value < before.calibration_error.value / 2
        assert after.log_loss.value < before.log_loss.value
        assert after.accuracy == before.accuracy
    assert mended >= 24


def test_few_rows_of_a_model_that_is_a_little_too_sure_mostly_change_nothing() -> None:
    """115 rows cannot tell it from luck."""
    kept = sum(
        isinstance(choose(*model(115, seed, factor=1.3)).calibrator, Identity) for seed in range(20)
    )
    assert kept >= 15


def test_a_sample_without_mistakes_does_not_make_a_model_certain() -> None:
    """At 97 % and right in all of 60 rows, which is luck in 16 of 100 cases; see `_is_luck`."""
    given = np.tile([0.97, 0.02, 0.01], (60, 1))
    choice = choose(given, np.zeros(60, dtype=int))
    assert Identity() == choice.calibrator
    assert choice.attempts[0].log_loss.low > 0  # so the interval alone would have had it
    assert not any(one.is_certain for one in choice.attempts)


def test_two_bad_mistakes_do_not_make_a_calibrator_certain() -> None:
    """No luck explains them, but all of the gain comes from two rows, and others may lack such."""
    given = np.tile([0.99999, 0.00001], (60, 1))
    choice = choose(given, np.array([0] * 58 + [1, 1]))
    temperature = choice.attempts[0]
    assert temperature.log_loss.low <= 0 < temperature.log_loss.value
    assert Identity() == choice.calibrator


def test_a_model_that_is_right_far_more_often_than_it_says_is_made_surer() -> None:
    """Without a mistake too, where luck cannot explain it."""
    given = np.tile([0.6, 0.3, 0.1], (200, 1))
    choice = choose(given, np.zeros(200, dtype=int))
    assert not isinstance(choice.calibrator, Identity)
    assert confidence(given, choice.calibrator).min() > 0.95


def test_the_most_helpful_of_those_that_certainly_help_is_used() -> None:
    """Vector scaling mends a class that is named too often, which no temperature can."""
    given, labels = model(1500)
    bent = given * np.array([6.0, 1.0, 1.0, 1.0])
    bent /= bent.sum(axis=1, keepdims=True)
    choice = choose(bent, labels)
    by_name = {one.name: one for one in choice.attempts}
    assert ["temperature", "vector_scaling", "isotonic"] == list(by_name)
    assert "vector_scaling" == choice.calibrator.name
    assert by_name["vector_scaling"].is_certain
    gains = {name: one.log_loss.value for name, one in by_name.items() if one.is_certain}
    assert "vector_scaling" == max(gains, key=lambda name: gains[name])
    assert choice.note.startswith("Vector_scaling: on rows that it was not fitted on")


def test_what_is_told_of_a_choice_is_of_rows_that_it_was_not_fitted_on() -> None:
    """The gain, and honesty before and after, follow from the out-of-fold probabilities."""
    given, labels = model(600, factor=2.5)
    choice = choose(given, labels)
    (used,) = [one for one in choice.attempts if one.name == choice.calibrator.name]
    gain = (log_loss(given, labels) - log_loss(choice.out_of_fold, labels)).mean()
    assert gain == pytest.approx(used.log_loss.value)
    assert used.log_loss.low < gain < used.log_loss.high
    assert honesty(given, labels) == used.before
    assert honesty(choice.out_of_fold, labels, predicted=given.argmax(axis=1)) == used.after
    assert not np.allclose(choice.out_of_fold, choice.calibrator(given), rtol=1e-6, atol=0)
    assert np.allclose(choice.out_of_fold.sum(axis=1), 1)


def test_no_row_has_a_say_in_its_own_out_of_fold_probabilities() -> None:
    """The ten temperatures that rows were given are those of all rows but the fold's."""
    given, labels = model(600, factor=2.5)
    choice = choose(given, labels)
    assert isinstance(choice.calibrator, Temperature)
    before, after = np.log(given[:, :2]), np.log(choice.out_of_fold[:, :2])
    given_t = np.diff(before)[:, 0] / np.diff(after)[:, 0]
    folds = np.unique(given_t.round(6))
    assert 10 == len(folds)
    for t in folds:
        is_out = np.isclose(given_t, t, rtol=0, atol=2e-6)
        assert 60 == is_out.sum()
        assert t == pytest.approx(fit_temperature(given[~is_out], labels[~is_out]).t, abs=2e-6)
        assert np.bincount(labels[is_out], minlength=4).tolist() == pytest.approx(
            (np.bincount(labels, minlength=4) / 10).tolist(), abs=1
        )


def test_choosing_again_gives_the_same() -> None:
    """To the last bit, for the same seed."""

    def told(one: Choice) -> Any:
        return one.calibrator.as_json(), one.attempts, one.out_of_fold.tolist(), one.note

    given, labels = model(200, factor=2.5)
    assert told(choose(given, labels)) == told(choose(given, labels))
    assert told(choose(given, labels)) != told(choose(given, labels, seed=1))


@pytest.mark.parametrize("rows", [0, 1, 29])
def test_fewer_than_thirty_rows_change_nothing_and_say_so(rows: int) -> None:
    """However wrong the model."""
    given, labels = model(30, factor=20.0)
    choice = choose(given[:rows], labels[:rows])
    assert (Identity(), ()) == (choice.calibrator, choice.attempts)
    assert f"{rows} rows are too few" in choice.note
    assert np.array_equal(given[:rows], choice.out_of_fold)


def test_thirty_rows_are_tried_with_classes_that_occur_once_or_never() -> None:
    """And with a single class."""
    given, _ = model(30, factor=2.0)
    for labels in (np.zeros(30, dtype=int), np.array([0] * 28 + [1, 2])):
        choice = choose(given, labels)
        assert 3 == len(choice.attempts)
        assert np.isfinite(choice.out_of_fold).all()
    assert Identity() == choose(np.ones((40, 1)), np.zeros(40, dtype=int)).calibrator


def test_a_temperature_undoes_what_logits_were_multiplied_by() -> None:
    """And stays within its bounds where there is no least loss."""
    given, labels = model(20_000, factor=2.5)
    assert 2.5 == pytest.approx(fit_temperature(given, labels).t, rel=0.03)
    right, wrong = given.argmax(axis=1), given.argmin(axis=1)
    assert 0.05 == pytest.approx(fit_temperature(given, right).t, rel=1e-3)
    assert 20.0 == pytest.approx(fit_temperature(given, wrong).t, rel=1e-3)


def test_vector_scaling_finds_the_weight_and_bias_of_each_class() -> None:
    """Up to what a softmax cannot see: one and the same bias for all."""
    true, labels = model(40_000, classes=3)
    given = true * np.exp([0.0, 1.0, -1.0])
    given /= given.sum(axis=1, keepdims=True)
    found = fit_vector_scaling(given, labels)
    assert np.allclose(found.weights, 1, atol=0.05)
    found_biases = np.array(found.biases[1:]) - found.biases[0]
    assert [-1.0, 1.0] == pytest.approx(found_biases.tolist(), abs=0.1)


def test_a_class_that_never_occurs_is_not_ruled_out() -> None:
    """By any kind: none of a hundred rows does not mean never."""
    given, labels = model(400)
    seen = labels < 3
    for fit in FITS:
        mended = fit(given[seen], labels[seen])(given)
        assert (mended[given[:, 3] > 0.9, 3] > 1e-4).all()


def test_isotonic_lines_are_those_of_scikit_learn_made_to_sum_to_one() -> None:
    """Between knots and beyond them."""
    given, labels = model(500, factor=2.0)
    fresh, _ = model(300, 1, factor=3.0)
    lines = [
        IsotonicRegression(y_min=1 / (4 * 501), out_of_bounds="clip")
        .fit(given[:, i], labels == i)
        .predict(fresh[:, i])
        for i in range(4)
    ]
    wanted = np.column_stack(lines)
    wanted /= wanted.sum(axis=1, keepdims=True)
    assert np.allclose(wanted, fit_isotonic(given, labels)(fresh), atol=1e-12)


def test_a_row_that_all_lines_put_to_zero_stays_as_it_is() -> None:
    """Its mates do not."""
    step = Knots((0.4, 0.6), (0.0, 1.0))
    found = Isotonic((step, step, step))(np.array([[0.3, 0.3, 0.4], [0.1, 0.5, 0.4]]))
    assert [[0.3, 0.3, 0.4], [0.0, 1.0, 0.0]] == found.tolist()


@pytest.mark.parametrize("kind", range(4))
def test_an_answer_does_not_depend_on_its_batch(kind: int) -> None:
    """Bit for bit, alone or among others, in whatever order and layout of memory."""
    one = every_kind()[kind]
    given, _ = model(997, 5, factor=1.7)
    whole = one(given)
    assert np.float64 == whole.dtype
    assert np.allclose(whole.sum(axis=1), 1, atol=1e-12)
    for size in (1, 2, 3, 8, 33):
        parts = [one(given[i : i + size]) for i in range(0, len(given), size)]
        assert np.array_equal(whole, np.concatenate(parts))
    assert np.array_equal(whole[::-1], one(given[::-1]))
    assert np.array_equal(whole, one(np.asfortranarray(given)))
    assert one(given[:0]).shape == (0, 4)
    sure = confidence(given, one)
    assert np.array_equal(sure[5:6], confidence(given[5:6], one))


@pytest.mark.parametrize("kind", range(4))
def test_probabilities_of_zero_and_one_stay_probabilities(kind: int) -> None:
    """No kind divides by nothing or takes the logarithm of nothing."""
    found = every_kind()[kind](np.eye(4))
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()


@pytest.mark.parametrize("kind", range(4))
def test_a_calibrator_comes_back_from_json_as_it_was(kind: int) -> None:
    """Bit for bit."""
    one = every_kind()[kind]
    again = calibrator_of(json.loads(json.dumps(one.as_json(), allow_nan=False)))
    assert one == again
    given, _ = model(100, 6)
    assert np.array_equal(one(given), again(given))


@pytest.mark.parametrize(
    "described",
    [
        None,
        [],
        {},
        {"name": "platt"},
        {"name": "identity", "t": 1.0},
        {"name": "temperature"},
        {"name": "temperature", "t": 0.0},
        {"name": "temperature", "t": "2"},
        {"name": "temperature", "t": True},
        {"name": "temperature", "t": float("nan")},
        {"name": "vector_scaling", "weights": [1.0], "biases": [0.0, 0.0]},
        {"name": "vector_scaling", "weights": [], "biases": []},
        {"name": "vector_scaling", "weights": "1", "biases": "0"},
        {"name": "vector_scaling", "weights": [float("inf")], "biases": [0.0]},
        {"name": "isotonic", "classes": []},
        {"name": "isotonic", "classes": [{"at": [0.1]}]},
        {"name": "isotonic", "classes": [{"at": [], "share": []}]},
        {"name": "isotonic", "classes": [{"at": [0.2, 0.1], "share": [0.1, 0.2]}]},
        {"name": "isotonic", "classes": [{"at": [0.1, 0.2], "share": [0.2, 0.1]}]},
        {"name": "isotonic", "classes": [{"at": [0.1, 0.2], "share": [0.2, 1.1]}]},
        {"name": "isotonic", "classes": [{"at": [0.1], "share": [-0.1]}]},
        {"name": "isotonic", "classes": [3]},
    ],
)
def test_what_describes_no_calibrator_is_refused(described: Any) -> None:
    """With what was given and which kinds there are."""
    with pytest.raises(CheckpointError, match="Known are identity, temperature"):
        calibrator_of(described)


def test_a_calibrator_of_other_classes_is_refused() -> None:
    """Instead of stretched over them."""
    given, _ = model(5, classes=3)
    for one in every_kind()[2:]:
        with pytest.raises(CheckpointError, match="of 4 classes"):
            one(given)
    with pytest.raises(CheckpointError, match="of 1 classes"):
        VectorScaling((1.0,), (0.0,))(given)


def test_confidence_is_in_the_class_that_the_model_names() -> None:
    """Though calibration would name another."""
    given = np.array([[0.6, 0.4], [0.1, 0.9]])
    turned = VectorScaling((1.0, 1.0), (0.0, 1.0))
    mended = turned(given)
    assert 1 == mended[0].argmax()
    assert [mended[0, 0], mended[1, 1]] == confidence(given, turned).tolist()
    assert [0.6, 0.9] == confidence(given, Identity()).tolist()
    assert confidence(given, Temperature(2.0))[0] < 0.6


@pytest.mark.parametrize("fit", [*FITS, choose])
def test_rows_that_are_no_probabilities_are_refused(fit: Any) -> None:
    """By fitting and by choosing."""
    given, labels = model(40)
    with pytest.raises(ConfigError, match="Row 0 is"):
        fit(given * 2, labels)
    with pytest.raises(ConfigError, match="positions of the 4 classes"):
        fit(given, labels + 4)


def test_isotonic_lines_of_no_rows_are_refused() -> None:
    """The other kinds leave probabilities as they are."""
    given, labels = np.empty((0, 3)), np.empty(0, dtype=int)
    with pytest.raises(ConfigError, match="no rows to calibrate on"):
        fit_isotonic(given, labels)
    fresh, _ = model(10, classes=3)
    assert np.allclose(fresh, fit_vector_scaling(given, labels)(fresh))
