"""The gate, on answers made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from salver.optimization.answers import Answers, answers_of
from salver.optimization.fidelity import GATES, compared
from salver.types import ClassProbabilities, Outcomes

CLASSES = ("a", "b", "c")


def answers(probabilities: np.ndarray) -> Answers:
    """Of a model with the classes a, b and c."""
    best = probabilities.argmax(axis=1)
    failed = np.zeros(len(probabilities), dtype=bool)
    return Answers(probabilities, 3, CLASSES, tuple(CLASSES[i] for i in best), failed)


def sure(n: int = 200) -> np.ndarray:
    """Probabilities of .8, .15 and .05, in turn for each class."""
    rows = [np.roll([0.8, 0.15, 0.05], i % 3) for i in range(n)]
    return np.array(rows)


def test_equal_answers_pass_every_gate() -> None:
    """And all differences are zero."""
    found = compared(answers(sure()), [answers(sure())])
    assert (1.0, 0.0, 0.0, 0.0) == (found.agreement, found.mean, found.p99, found.largest)
    assert all([] == found.refused(gate) for gate in GATES.values())


def test_a_flip_counts_if_the_original_was_sure() -> None:
    """A tie that flips does not, whatever the agreement says."""
    tie = sure()
    tie[0] = [0.5, 0.499, 0.001]
    near = tie.copy()
    near[0] = [0.499, 0.5, 0.001]
    found = compared(answers(tie), [answers(near)])
    assert 0 == found.sure_flips
    assert [] == found.refused(GATES["lossless"])
    spoilt = tie.copy()
    spoilt[3] = [0.1, 0.85, 0.05]
    found = compared(answers(tie), [answers(spoilt)])
    assert 0.995 == found.agreement
    assert any("1 labels flip" in reason for reason in found.refused(GATES["close"]))


def test_two_rows_in_a_hundred_are_seen() -> None:
    """By the 99th percentile, though no label changes and the mean is small."""
    moved = sure()
    moved[:6] += [0.0, 0.0, 0.0]
    for i in range(6):
        moved[i] = np.roll([0.7, 0.25, 0.05], i % 3)
    found = compared(answers(sure()), [answers(moved)])
    assert 1.0 == found.agreement
    assert ["99th percentile of the difference 0.1 > 0.02"] == [
        reason for reason in found.refused(GATES["lossless"]) if "99th" in reason
    ]


def test_the_worst_way_of_putting_rows_together_counts() -> None:
    """And how far answers move between them is told apart from how far they are off."""
    moved = sure()
    moved[:, 0] += 0.01
    found = compared(answers(sure()), [answers(sure()), answers(moved)])
    assert 0.01 == pytest.approx(found.largest)
    assert 0.01 == pytest.approx(found.mates)
    assert 0 == found.mates_flips


def test_decisions_of_the_policy_are_counted() -> None:
    """Also where no label changes."""
    original = answers(sure())
    decided = ("none", *original.decided[1:])
    found = compared(original, [replace(original, decided=decided)])
    assert 0.005 == pytest.approx(found.decisions)
    assert [] == found.refused(GATES["lossless"])
    assert ["share of other decisions 0.005 > 0.002"] == found.refused(GATES["exact"])


def test_what_is_no_number_or_of_another_shape_is_infinitely_far() -> None:
    """It cannot pass."""
    gone = sure()
    gone[:3] = np.nan
    assert np.inf == compared(answers(sure()), [answers(gone)]).largest
    other = replace(answers(sure()), numbers=np.ones((200, 2)), probabilities=2)
    assert np.inf == compared(answers(sure()), [other]).mean
    none = replace(answers(sure()), numbers=None, probabilities=0)
    assert compared(answers(sure()), [none]).refused(GATES["close"])


def test_rows_that_fail_in_both_are_no_difference() -> None:
    """Those that fail in one are refused."""
    failed = np.zeros(200, dtype=bool)
    failed[0] = True
    numbers = sure()
    numbers[0] = np.nan
    broken = replace(answers(sure()), numbers=numbers, failed=failed)
    assert [] == compared(broken, [broken]).refused(GATES["exact"])
    assert ["1 rows fail in one of both only"] == [
        r for r in compared(answers(sure()), [broken]).refused(GATES["close"]) if "fail" in r
    ]


def test_other_numbers_are_measured_in_their_own_spread() -> None:
    """So that thousands and thousandths have the same gate."""
    random = np.random.default_rng(0)
    numbers = random.normal(5000, 1000, (500, 1))
    original = Answers(numbers, 0, (), ("x",) * 500, np.zeros(500, dtype=bool))
    found = compared(original, [replace(original, numbers=numbers + 1)])
    assert 1e-3 == pytest.approx(found.mean, rel=0.1)
    (reason,) = found.refused(GATES["lossless"])
    assert reason.startswith("mean difference")


def test_f1_must_stay_within_the_interval_of_the_original() -> None:
    """Where labels are known."""
    labels = [CLASSES[i % 3] for i in range(200)]
    turned = sure()
    turned[:60] = turned[:60][:, ::-1]
    found = compared(answers(sure()), [answers(turned)], labels)
    assert found.reference is not None
    assert (1.0, (1.0, 1.0)) == (found.reference.macro_f1, found.reference.f1_interval)
    assert any("macro F1" in reason for reason in found.refused(GATES["close"]))


def test_f1_counts_in_every_way_of_putting_rows_together() -> None:
    """The worst of them; a label that the model does not know is never right, nor is a failure."""
    labels = [*[CLASSES[i % 3] for i in range(199)], "another"]
    turned = sure()
    turned[:60] = turned[:60][:, ::-1]
    found = compared(answers(sure()), [answers(sure()), answers(turned)], labels)
    assert found.quality is not None
    assert found.reference is not None
    assert found.quality.macro_f1 < found.reference.macro_f1
    assert 0.995 == found.reference.accuracy
    failed = np.arange(200) == 199
    found = compared(replace(answers(sure()), failed=failed), [answers(sure())], labels)
    assert found.reference is not None
    assert 0.995 == found.reference.accuracy


def test_a_confidence_beside_probabilities_is_measured_as_they_are() -> None:
    """Other numbers in their own spread; neither is a decision, for it always moves a little."""

    def said(moved: float) -> Answers:
        rows = [[0.8 - moved, 0.2 + moved], [0.3, 0.7]] * 100
        columns = {
            "prediction": ["a", "b"] * 100,
            "confidence": [max(row) for row in rows],
            "score": [1000.0 + i + moved * 1000 for i in range(200)],
            "probabilities": ClassProbabilities(("a", "b"), rows),
        }
        return answers_of([Outcomes(200, columns)], range(200))

    near, far = compared(said(0.0), [said(1e-3)]), compared(said(0.0), [said(0.1)])
    assert 0 == near.decisions
    assert 0 == far.decisions
    spread = np.arange(200).std()
    assert 1 / spread == pytest.approx(near.largest)
    assert 100 / spread == pytest.approx(far.largest)
    assert 0.5 * (1e-3 / 2) + 0.5 / spread == pytest.approx(near.mean)


def test_answers_of_several_lengths_are_compared_number_by_number() -> None:
    """A row with fewer numbers than another is no less looked at."""

    def said(moved: float) -> Answers:
        rows = [[{"score": 0.5 + moved}] * (1 + i % 3) for i in range(200)]
        return answers_of([Outcomes(200, {"entities": rows})], range(200))

    assert [] == compared(said(0.0), [said(0.0)]).refused(GATES["exact"])
    assert compared(said(0.0), [said(0.4)]).refused(GATES["close"])
    shorter = said(0.0)
    assert shorter.numbers is not None
    assert 0.5 == shorter.numbers[0, 0]
    assert np.isnan(shorter.numbers[0, 1])
