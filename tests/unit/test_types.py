from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salver.types import (
    Batch,
    ClassProbabilities,
    Failure,
    Field,
    Outcome,
    Outcomes,
    RowFailed,
    text_length,
)

DTYPES = [
    # dtype, nullable, values, dtype of the array
    ("string", False, ["a", ""], "object"),
    ("string", True, ["a", None], "object"),
    ("int64", False, [2**63 - 1, -(2**63)], "int64"),
    ("int64", True, [1, None], "object"),
    ("int64", True, [1, 2], "object"),
    ("float64", False, [0.5, 1.0], "float64"),
    ("float64", True, [0.5, None], "float64"),
    ("bool", False, [True, False], "bool"),
    ("bool", True, [True, None], "object"),
    ("object", False, [[1, 2], [3, 4]], "object"),
    ("object", False, [[1], [2, 3]], "object"),
    ("object", True, [{"a": 1}, None], "object"),
]


@pytest.mark.parametrize(("dtype", "nullable", "values", "expected"), DTYPES)
def test_a_column_has_the_dtype_of_its_field(dtype, nullable, values, expected):
    """Whether a field may be null decides its array's dtype, whatever the values of a batch are."""
    batch = Batch((Field("x", dtype, nullable),), [(v,) for v in values])
    column = batch.columns()["x"]
    assert column.dtype == expected
    assert column.shape == (2,)
    if expected == "object":
        assert column.tolist() == values


def test_null_in_a_float_column_is_nan():
    """A nullable float column stays float64, with NaN for null."""
    batch = Batch((Field("x", "float64", True),), [(None,), (2,)])
    assert np.isnan(batch.columns()["x"][0])
    assert batch.columns()["x"][1] == 2.0


@given(st.lists(st.text(), max_size=8))
def test_texts_survive_in_columns(texts):
    """Every text comes out of a column as it went in, trailing NULs included."""
    batch = Batch((Field("t", "string"),), [(t,) for t in [*texts, "end\0\0"]])
    assert batch.columns()["t"].tolist() == [*texts, "end\0\0"]


@pytest.mark.parametrize(("dtype", "nullable", "_values", "expected"), DTYPES)
def test_an_empty_batch_has_empty_columns(dtype, nullable, _values, expected):
    """A batch without rows gives arrays of length 0 with the usual dtypes."""
    column = Batch((Field("x", dtype, nullable),), []).columns()["x"]
    assert column.shape == (0,)
    assert column.dtype == expected


def test_batches_are_cut_chosen_from_and_added():
    """Slices, selections and sums keep fields and rows together."""
    batch = Batch((Field("n", "int64"),), [(i,) for i in range(5)])
    assert batch[1:3].rows == [(1,), (2,)]
    assert batch.take([4, 0]).rows == [(4,), (0,)]
    assert (batch[:1] + batch[4:]).rows == [(0,), (4,)]
    assert len(batch) == 5
    assert batch.names == ("n",)


def test_text_length_counts_characters_of_texts_only():
    """Numbers and nulls cost a model no reading."""
    assert text_length(("abc", None, 12345, "é")) == 4


def test_an_outcome_gives_its_values_by_name():
    """A result reads like a mapping, and as JSON it is the mapping."""
    outcome = Outcome({"prediction": "a"})
    assert outcome.ok
    assert outcome["prediction"] == "a"
    assert outcome.as_json() == {"prediction": "a"}
    with pytest.raises(KeyError):
        outcome["confidence"]


def test_reading_from_a_failed_outcome_raises_its_failure():
    """A failed outcome raises RowFailed, which is a KeyError and tells code and message."""
    outcome = Outcome(None, Failure("model_error", "It raised."))
    assert not outcome.ok
    with pytest.raises(RowFailed, match="model_error: It raised") as caught:
        outcome["prediction"]
    assert caught.value.failure.code == "model_error"
    assert isinstance(caught.value, KeyError)


def test_a_failure_shows_no_detail_to_clients():
    """The public part of a failure holds code, message and path, never the detail."""
    failure = Failure("model_error", "It raised.", "Traceback: /srv/model.py", ("tags", 0))
    public = {"code": "model_error", "message": "It raised.", "path": ["tags", 0]}
    assert failure.as_json() == public
    assert Outcome(None, failure).as_json() == {"error": public}
    assert "path" not in Failure("a", "b").as_json()


def test_class_probabilities_are_a_sequence_of_mappings():
    """A column of probabilities gives one mapping per row, by index, slice and iteration."""
    column = ClassProbabilities(("a", "b"), [[0.25, 0.75], [1.0, 0.0]])
    first, second = {"a": 0.25, "b": 0.75}, {"a": 1.0, "b": 0.0}
    assert column[0] == first
    assert list(column) == [first, second]
    assert list(column[1:]) == [second]
    assert list(reversed(column)) == [second, first]
    assert len(column) == 2


def test_outcomes_give_one_outcome_per_row():
    """Each position has its values, its failure or its abstention, and there are no others."""
    outcomes = Outcomes(3, {"p": [1, 2, 3]}, {1: Failure("x", "y")}, frozenset({2}))
    assert len(outcomes) == 3
    assert list(outcomes) == [
        Outcome({"p": 1}),
        Outcome(None, Failure("x", "y")),
        Outcome({"p": 3}, None, True),
    ]
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            outcomes[outside]
