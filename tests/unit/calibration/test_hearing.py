"""What a model says to held-out rows, and what it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from salver.calibration.hearing import heard
from salver.errors import ConfigError
from salver.lengths import Characters
from salver.pipeline import Pipeline
from salver.types import Batch, Field

FIELDS = (Field("text", "string"),)


class Model:
    """Names the first letter of a text; fails at one, and gives NaN for another."""

    classes_ = ("a", "b")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        texts = batch["text"].tolist()
        if "broken" in texts:
            raise ValueError("broken")
        rows = [[np.nan, 1.0] if t == "nan" else [t[0] == "a", t[0] != "a"] for t in texts]
        states = [[[len(t)], [np.inf if t == "bent" else ord(t[0])]] for t in texts]
        return {
            "probabilities": np.array(rows, dtype=float),
            "hidden_states": np.array(states, dtype=float),
        }


def test_rows_come_back_in_their_order_without_those_that_fail() -> None:
    """Whatever batch they were in; one that fails costs its neighbours nothing."""
    texts = ["abc", "broken", "b", "nan", "aaaaaaa", "bb", "bent"]
    told: list[tuple[int, int]] = []
    batch = Batch(FIELDS, [(text,) for text in texts])
    found = heard(Pipeline(Model()), batch, 4, Characters(), lambda *done: told.append(done))
    assert [0, 2, 4, 5] == found.rows.tolist()
    assert ["a", "b", "a", "b"] == found.scored.columns["prediction"]
    assert found.scored.probabilities is not None
    assert [[1, 0], [0, 1], [1, 0], [0, 1]] == found.scored.probabilities.tolist()
    assert found.hidden is not None
    assert [[3, 97], [1, 98], [7, 97], [2, 98]] == found.hidden[:, :, 0].tolist()
    assert (7, 7) == told[-1]


def test_a_model_that_answers_nothing_is_an_error() -> None:
    """There is nothing to calibrate."""
    batch = Batch(FIELDS, [("broken",), ("nan",)])
    with pytest.raises(ConfigError, match="fails at every row"):
        heard(Pipeline(Model()), batch, 4, Characters(), lambda *_: None)
