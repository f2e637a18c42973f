"""What is fitted, and on which rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from salver.calibration.fitting import Rows, fitted
from salver.calibration.hearing import Heard
from salver.errors import ConfigError
from salver.offline.labelled import Labelled
from salver.policies import Scored
from salver.types import Batch, Field

CLASSES = ("a", "b", "c")


def rows_of(
    n: int,
    seed: int = 0,
    *,
    sharp: float = 1.0,
    fields: tuple[Field, ...] = (Field("text", "string"),),
    hidden: bool = False,
    label: str = "tag",
) -> Rows:
    """Rows whose labels are drawn from the model's probabilities, which are then sharpened."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, 3))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(3, p=p) for p in honest])
    said = honest**sharp / (honest**sharp).sum(axis=1, keepdims=True)
    prediction = [CLASSES[i] for i in said.argmax(axis=1)]
    words = [
        "pan",
        "oven",
        "salt",
        "butter",
        "stew",
        "onion",
        "simmer",
        "roast",
        "knife",
        "dough",
        "yeast",
        "pepper",
    ]
    values: list[tuple[Any, ...]] = [
        tuple(
            " ".join(random.choice(words, 5)) if f.dtype == "string" else float(random.normal())
            for f in fields
        )
        for _ in range(n)
    ]
    given = [{"tag": CLASSES[i]} for i in labels]
    scored = Scored({"prediction": prediction}, said, CLASSES, np.zeros(n, dtype=bool))
    states = random.normal(size=(n, 2, 6)).astype(np.float32) if hidden else None
    return Rows.of(
        Labelled(Batch(fields, values), given), Heard(np.arange(n), scored, states), label
    )


def test_an_honest_model_keeps_its_confidence() -> None:
    """And every held-out row is there to make promises on."""
    made, choice = fitted(rows_of(300), None)
    assert choice is not None
    assert made.calibrator is not None
    assert "identity" == made.calibrator.name
    given = made.held_out.scored.probabilities
    assert given is not None
    assert made.held_out.scored.confidence is not None
    assert given.max(axis=1).tolist() == pytest.approx(made.held_out.scored.confidence.tolist())


def test_held_out_confidence_is_of_calibrators_that_did_not_see_the_row() -> None:
    """It differs a little from what the calibrator in use would say."""
    rows = rows_of(600, sharp=3.0)
    made, choice = fitted(rows, None)
    assert choice is not None
    assert made.calibrator is not None
    assert "identity" != made.calibrator.name
    assert rows.scored.probabilities is not None
    in_use, stored = made.confidence(rows.scored.probabilities), made.held_out.scored.confidence
    assert stored is not None
    assert 0 < np.abs(in_use - stored).max() < 0.1


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"hidden": True}, "layers"),
        ({}, "words"),
        ({"fields": (Field("x", "float64"), Field("y", "float64"))}, "table"),
        ({"fields": (Field("x", "float64"), Field("text", "string"))}, "table"),
    ],
)
def test_novelty_is_made_of_what_there_is(given: dict[str, Any], kind: str) -> None:
    """Hidden states, else words, else the columns of a table; with rows of training or without."""
    for train in (None, rows_of(200, seed=1, **given)):
        made, _ = fitted(rows_of(150, **given), train)
        assert made.score is not None
        assert kind == made.score.kind
        assert made.held_out.scored.novelty is not None
        assert (150,) == made.held_out.scored.novelty.shape


def test_without_labels_confidence_is_the_model_s_own() -> None:
    """Nothing can be promised of what is right, but of what is novel."""
    made, choice = fitted(rows_of(100, label=""), None)
    assert choice is None
    assert made.held_out.right is None
    assert made.calibrator is not None
    assert "identity" == made.calibrator.name


def test_a_label_that_the_model_does_not_know_is_never_right() -> None:
    """And no calibrator is fitted on it."""
    rows = rows_of(100)
    assert rows.labels is not None
    unknown = Rows(
        rows.batch, rows.scored, None, rows.right, np.where(rows.labels == 2, -1, rows.labels)
    )
    made, _ = fitted(unknown, None)
    assert made.held_out.labels is not None
    assert -1 in made.held_out.labels


def test_too_few_rows_are_refused() -> None:
    """With how many it takes."""
    with pytest.raises(ConfigError, match="at least 50"):
        fitted(rows_of(49), None)


def test_a_model_without_ground_for_novelty_is_calibrated_all_the_same() -> None:
    """Its columns say nothing of it, and its confidence is none the worse."""
    rows = rows_of(100)
    lists = Batch((Field("x", "json"),), [([1.0, 2.0],)] * 100)
    made, choice = fitted(replace(rows, batch=lists), None)
    assert made.score is None
    assert made.held_out.scored.novelty is None
    assert choice is not None


def test_a_model_that_does_not_answer_its_likeliest_class_has_no_confidence() -> None:
    """No probability says how sure it is of what it answers."""
    rows = rows_of(100)
    other = replace(rows, scored=replace(rows.scored, columns={"prediction": ["a"] * 100}))
    made, choice = fitted(other, None)
    assert made.calibrator is None
    assert choice is None
    assert made.held_out.scored.confidence is None


@pytest.mark.parametrize("label", ["tag", ""])
def test_a_model_of_scores_that_do_not_sum_to_1_has_no_confidence(label: str) -> None:
    """It has no probabilities of classes, with labels or without; all else is fitted as ever."""
    rows = rows_of(100, label=label)
    assert rows.scored.probabilities is not None
    scores = np.sqrt(rows.scored.probabilities)  # of the same order
    made, choice = fitted(replace(rows, scored=replace(rows.scored, probabilities=scores)), None)
    assert made.calibrator is None
    assert choice is None
    assert made.held_out.scored.confidence is None
    assert made.held_out.scored.novelty is not None


def test_one_row_that_does_not_sum_to_1_is_enough() -> None:
    """Nothing says of a new row which kind it is of; what rounding leaves does not count."""
    rows = rows_of(100)
    assert rows.scored.probabilities is not None
    rounded = rows.scored.probabilities.round(4)
    _, choice = fitted(replace(rows, scored=replace(rows.scored, probabilities=rounded)), None)
    assert choice is not None
    rounded[7] /= 2
    _, choice = fitted(replace(rows, scored=replace(rows.scored, probabilities=rounded)), None)
    assert choice is None


def test_numbers_that_are_no_shares_are_refused_where_promises_are_about_labels() -> None:
    """With what the model gave and what to return; without labels they are no confidence."""
    rows = rows_of(100)
    assert rows.scored.probabilities is not None
    logits = np.log(rows.scored.probabilities)
    other = replace(rows, scored=replace(rows.scored, probabilities=logits))
    with pytest.raises(ConfigError, match=r"'probabilities' hold -\d.*within 0 and 1.*softmax"):
        fitted(other, None)
    made, choice = fitted(replace(other, right=None, labels=None), None)
    assert (None, None) == (made.calibrator, choice)


def test_rows_without_a_label_are_left_out() -> None:
    """They are not wrong, but unknown."""
    rows = rows_of(60)
    known = rows.labelled(["a"] * 50 + [""] * 10)
    assert (50, 50) == (len(known), len(known.scored.columns["prediction"]))
    assert known.right is not None
    assert rows.right is not None
    assert rows.right[:50].tolist() == known.right.tolist()
