"""Policies on rows that their limits were not chosen on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import BaseModel
from sklearn.metrics import roc_auc_score

from policies.held_out import held_out
from salver import ConformalSet, Novelty, Precision, Threshold, deployment
from salver.calibration.fitting import Rows
from salver.calibration.judging import area_under_curve, judged, noise_for, policies_on
from salver.errors import ConfigError
from salver.testing import StubModel
from salver.trust.fitted import Fitted
from salver.types import Batch


def test_policies_are_judged_beside_what_else_one_could_do() -> None:
    """Each alone, all together, a fixed threshold and a promise of 95 %."""
    rows = held_out(800)
    policies = (Novelty(0.02), Precision(0.9))
    shown = policies_on(policies, rows)
    assert [repr(policies[0]), repr(policies[1]), "all of them"] == [s.name for s in shown[:3]]
    assert [repr(Threshold(0.9)), repr(Precision(0.95))] == [s.name for s in shown[3:]]
    novelty, precision, both = shown[:3]
    assert novelty.answered is not None
    assert both.answered is not None
    assert precision.precision is not None
    assert 0.96 < novelty.answered.value < 1
    assert both.answered.value < novelty.answered.value
    assert precision.precision.low < 0.95
    assert precision.precision.value > 0.88
    assert precision.right / precision.given == precision.precision.value


def test_a_threshold_is_what_it_is() -> None:
    """No limit is chosen, so cross-validation changes nothing."""
    rows = held_out(500)
    (shown,) = (s for s in policies_on((), rows) if s.name == repr(Threshold(0.9)))
    assert rows.scored.probabilities is not None
    assert rows.right is not None
    answered = rows.scored.probabilities.max(axis=1) >= 0.9
    assert (int((answered & rows.right).sum()), int(answered.sum())) == (shown.right, shown.given)


def test_a_promise_that_cannot_be_kept_says_so() -> None:
    """Beside the others."""
    shown = policies_on((Precision(0.99),), held_out(100))
    assert "0.99" in shown[0].trouble
    assert shown[0].answered is None


def test_sets_are_judged_by_what_they_hold() -> None:
    """And by their size."""
    (shown, *_) = policies_on((ConformalSet(0.9),), held_out(800))
    assert shown.sets is not None
    assert shown.set_size is not None
    assert 0.87 < shown.sets.value < 0.94
    assert 1 <= shown.set_size < 3


def test_without_labels_only_novelty_is_judged() -> None:
    """Nobody knows what is right."""
    rows = replace(held_out(300), right=None, labels=None)
    (shown,) = policies_on((Novelty(0.05),), rows)
    assert shown.answered is not None
    assert shown.precision is None


def test_the_area_under_the_curve_is_that_of_the_books() -> None:
    """Ties counted half."""
    random = np.random.default_rng(0)
    ordinary, strange = random.normal(0, 1, 70).round(1), random.normal(1, 1, 50).round(1)
    truth = np.repeat([0, 1], [70, 50])
    expected = roc_auc_score(truth, np.concatenate([ordinary, strange]))
    assert expected == pytest.approx(area_under_curve(ordinary, strange))


def test_noise_is_made_for_models_of_texts_alone() -> None:
    """Random letters and digits in one field after the other."""

    class Project(BaseModel):
        title: str = ""
        description: str = ""

    class House(BaseModel):
        area: float

    batch = noise_for(deployment(input=Project, name="a")(type("A", (StubModel,), {})).bind())
    assert batch is not None
    assert 1000 == len(batch)
    assert {(True, False), (False, True)} == {(bool(t), bool(d)) for t, d in batch.rows}
    assert noise_for(deployment(input=House, name="b")(type("B", (StubModel,), {})).bind()) is None


def _never_asked(_: Batch) -> Rows:
    raise AssertionError("nothing is to be asked of it")


def test_scores_that_do_not_sum_to_1_are_told_of_with_what_to_do() -> None:
    """Policies are judged by them all the same, as they use them."""

    class House(BaseModel):
        area: float

    rows = held_out(300)
    assert rows.scored.probabilities is not None
    scores = rows.scored.probabilities.copy()
    scores[5:25] = np.sqrt(scores[5:25])
    other = replace(rows, scored=replace(rows.scored, probabilities=scores, confidence=None))
    one = deployment(input=House, name="d", policy=Threshold(0.6))(
        type("D", (StubModel,), {})
    ).bind()
    found = judged(one, Fitted(None, None, other), None, _never_asked, {})
    assert "On 20 of 300 rows the model's probabilities do not sum to 1" in found["note"]
    assert "softmax" in found["note"]
    assert found["before"] is None
    own, threshold, precision = found["policies"]
    assert own.precision is not None
    assert threshold.precision is not None
    assert "uses='probability'" in precision.trouble


def test_a_model_that_refuses_what_means_nothing_is_judged_without_it() -> None:
    """The report says so; its policies are judged as ever."""

    class Text(BaseModel):
        text: str

    def refuses(_: Batch) -> Rows:
        raise ConfigError("The model fails at every row.")

    one = deployment(input=Text, name="c")(type("C", (StubModel,), {})).bind()
    found = judged(one, Fitted(None, None, held_out(300)), None, refuses, {})
    assert () == found["strange"]
    assert "fails at all 1,000 random strings" in found["note"]
    assert found["policies"]
