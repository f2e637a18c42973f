from __future__ import annotations

from typing import Any

import pytest

from salver.account.noting import MAX_CLASS, MAX_TEXT, likeliest, records_of, seen_of
from salver.account.records import Record, class_text
from salver.account.rows import UNKNOWN
from salver.types import Batch, Failure, Field, Outcome

FIELDS = (
    Field("title", "string"),
    Field("stars", "int64", nullable=True),
    Field("image", "object"),
)


def _records(*outcomes: Outcome, with_inputs: bool = False, **row: Any) -> list[Record]:
    values = (row.get("title", "seven"), row.get("stars", 5), row.get("image", b"\x89PNG"))
    return records_of(
        seen_of(Batch(FIELDS, [values] * len(outcomes)), with_inputs),
        list(outcomes),
        request_id="order-7",
        deployment="Tagger",
        version="abc",
        at=12.5,
        policies=row.get("policies", ("Novelty", "Mine")),
    )


def test_each_row_of_a_request_has_a_record() -> None:
    """Rows are told apart by their position in the request."""
    found = _records(Outcome({"prediction": "nlp"}), Outcome({"prediction": "cv"}))
    assert [(r.request_id, r.row, r.prediction) for r in found] == [
        ("order-7", 0, "nlp"),
        ("order-7", 1, "cv"),
    ]
    assert {(r.deployment, r.version, r.at, r.length) for r in found} == {
        ("Tagger", "abc", 12.5, 5)
    }


def test_an_answer_is_kept_with_what_is_known_of_it() -> None:
    """Own class, calibrated confidence, novelty and the policy that withheld it stand in the record."""
    value = {"prediction": "other", "probabilities": {"cv": 0.7, "nlp": 0.3}}
    details = {"confidence": 0.6, "novelty": 3.2, "abstained": "Novelty: 3.20 is above 1.43"}
    (found,) = _records(Outcome(value, None, True, details))
    assert (found.prediction, found.own, found.confidence) == ("other", "cv", 0.6)
    assert (found.novelty, found.withheld_by, found.failed) == (3.2, "Novelty", None)


def test_without_a_calibration_confidence_is_the_probability() -> None:
    """The largest probability stands for the confidence where nothing is calibrated."""
    (found,) = _records(Outcome({"probabilities": {"cv": 0.7, "nlp": 0.3}}))
    assert (found.own, found.confidence, found.withheld_by) == ("cv", 0.7, None)


@pytest.mark.parametrize(
    ("reason", "policies", "name"),
    [
        ("Novelty: 3.20 is above 1.43", (), "Novelty"),
        ("Mine: too dear", ("Novelty", "Mine"), "Mine"),
        ("bob@example.com is on the list", ("Novelty", "Mine"), "Mine"),
        ("bob@example.com is on the list", ("His", "Mine"), UNKNOWN),
        ("bob@example.com: no", (), UNKNOWN),
    ],
)
def test_a_reason_is_kept_as_the_name_of_a_policy(
    reason: str, policies: tuple[str, ...], name: str
) -> None:
    """What a policy of the user's own says may hold what was asked, and is not kept."""
    (found,) = _records(Outcome({}, None, True, {"abstained": reason}), policies=policies)
    assert found.withheld_by == name


def test_a_long_text_is_no_class() -> None:
    """What a model has written at length may hold what was asked, and is not kept."""
    long = "x" * (MAX_CLASS + 1)
    answer = {"prediction": long, "prediction_set": [long], "probabilities": {long: 1.0}}
    (found,) = _records(Outcome(answer))
    assert (found.prediction, found.own, found.prediction_set) == (None, None, [""])


@pytest.mark.parametrize("given", [{"a": 7.0}, {"a": "high"}, {"a": None}, {"a": True}])
def test_numbers_that_are_no_probabilities_are_no_confidence(given: Any) -> None:
    """A composed function may call anything so."""
    (found,) = _records(Outcome({"probabilities": given}))
    assert (found.own, found.confidence) == (None, None)


def test_a_policy_that_gives_no_reason_has_withheld_it_all_the_same() -> None:
    """An answer that was withheld is never counted as given."""
    (found,) = _records(Outcome({"prediction": None}, None, True))
    assert found.withheld_by is not None


def test_a_failed_row_has_its_code() -> None:
    """A failure is kept as one, with nothing that looks like an answer."""
    (found,) = _records(Outcome(None, Failure("model_error", "...")))
    assert (found.failed, found.prediction, found.confidence) == ("model_error", None, None)


def test_sets_of_classes_are_kept() -> None:
    """The set that is promised to hold the true class stands in the record, as texts."""
    (found,) = _records(Outcome({"prediction": 1, "prediction_set": [1, 2]}))
    assert (found.prediction, found.prediction_set) == ("1", ["1", "2"])


def test_rows_are_kept_only_where_that_is_allowed() -> None:
    """Without leave no value of a row is kept, only how long its texts are."""
    assert _records(Outcome({}))[0].inputs is None
    assert _records(Outcome({}), with_inputs=True)[0].inputs == {"title": "seven", "stars": 5}


def test_long_texts_are_cut() -> None:
    """Of a long text the first part is kept, and its whole length."""
    (found,) = _records(Outcome({}), with_inputs=True, title="x" * 5000)
    assert found.inputs is not None
    assert len(found.inputs["title"]) == MAX_TEXT
    assert found.length == 5000


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (3, "3"), (True, "True"), (3.0, "3"), (3.5, None), (None, None), (["a"], None)],
)
def test_classes_are_texts(value: Any, text: str | None) -> None:
    """A class is the same text from a model, from JSON and from a file; a real number is none."""
    assert class_text(value) == text


def test_probabilities_without_names_have_no_class() -> None:
    """A list of numbers names nothing."""
    assert likeliest([0.2, 0.8]) == (None, None)
    assert likeliest({}) == (None, None)
