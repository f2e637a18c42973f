"""The models of the benchmark, as far as they need no heavy package."""

import numpy as np
import pytest

from bench import predictors


def test_the_constant_model_answers_each_row_of_a_batch():
    """One row of probabilities for each row given, also for more than it keeps ready."""
    constant = predictors.load("constant", "no folder", threads=1)
    for rows in (1, 7, 5000):
        given = constant(["a"] * rows, ["b"] * rows)
        assert given.shape == (rows, len(predictors.CLASSES))
        assert np.array_equal(given[-1], predictors.CONSTANT_ROW)


def test_an_unknown_model_is_named_with_those_that_are_known():
    """The error says what was given and what there is."""
    with pytest.raises(ValueError, match=r"'minlm' is not known.*bert-base"):
        predictors.load("minlm", "", threads=1)


def test_an_answer_names_the_likeliest_class_and_all_probabilities():
    """The one answer form is JSON's own types, from an array or a list."""
    for row in ([0.1, 0.6, 0.2, 0.1], np.array([0.1, 0.6, 0.2, 0.1])):
        answer = predictors.answer(row)
        assert answer["prediction"] == "mlops"
        assert list(answer["probabilities"]) == list(predictors.CLASSES)
        assert all(type(p) is float for p in answer["probabilities"].values())


def test_a_server_learns_its_model_from_the_environment(monkeypatch):
    """A server script needs no argument; without the variables it says what is missing."""
    monkeypatch.setenv("BENCH_MODEL", "constant")
    monkeypatch.setenv("BENCH_FOLDER", "anywhere")
    monkeypatch.setenv("BENCH_THREADS", "1")
    assert len(predictors.from_environment()(["a"], ["b"])) == 1
    monkeypatch.delenv("BENCH_FOLDER")
    with pytest.raises(RuntimeError, match="BENCH_FOLDER not set"):
        predictors.from_environment()
