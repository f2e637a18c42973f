"""Estimators of scikit-learn, listened to and exchanged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from salver.errors import CheckpointError
from salver.models.variants.parts import part_at, parts_of

pd = pytest.importorskip("pandas")
linear = pytest.importorskip("sklearn.linear_model")
pipeline = pytest.importorskip("sklearn.pipeline")
preprocessing = pytest.importorskip("sklearn.preprocessing")
text = pytest.importorskip("sklearn.feature_extraction.text")

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]
TEXTS = ["good day", "bad day", "good", "bad"] * 10
INPUTS = [("X", "float64")]


class Holder:
    """As users hold an estimator."""

    def __init__(self, model: Any) -> None:
        self.model = model


class Graph:
    """A graph that says "yes" with certainty, and notes what it is given."""

    def __init__(self) -> None:
        self.given: list[Sequence[Any]] = []

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        self.given.append(arrays)
        n = len(arrays[0])
        one = np.float32([[0, 1]] * n)
        return [np.array(["yes"] * n, dtype=object), one]


@pytest.fixture
def holder() -> Holder:
    return Holder(linear.LogisticRegression().fit(X, Y))


def heard(holder: Holder, table: Any, *methods: str) -> list[Any]:
    """The calls when these methods are asked, in turn."""
    with part_at(holder, "sklearn", ("model",)).listening() as calls:
        for method in methods:
            getattr(holder.model, method)(table)
    return calls


def exchanged(holder: Holder, table: Any, *methods: str) -> Graph:
    """Exchanged for a graph that was made for such a table, as a variant in a file would be."""
    call, graph = heard(holder, table, *methods)[0], Graph()
    inputs = [(name, str(array.dtype)) for name, array in call.arrays.items()]
    constants = json.loads(json.dumps(dict(call.constants)))
    part_at(holder, "sklearn", ("model",)).exchange(graph, inputs, constants)
    return graph


def test_an_estimator_is_listened_to(holder: Holder) -> None:
    """It answers as ever, and is in its place again afterwards."""
    model = holder.model
    with part_at(holder, "sklearn", ("model",)).listening() as calls:
        said = holder.model.predict(X)
    assert model.predict(X).tolist() == said.tolist()
    assert X.tolist() == calls[0].arrays["X"].tolist()
    assert model is holder.model


def test_what_was_heard_does_not_change(holder: Holder) -> None:
    """A class may fill the same array again for its next rows."""
    table = X.copy()
    with part_at(holder, "sklearn", ("model",)).listening() as calls:
        holder.model.predict(table)
        table[:] = 0
    assert X.tolist() == calls[0].arrays["X"].tolist()


def test_calls_of_all_methods_have_the_same_constants(holder: Holder) -> None:
    """So that one graph is made for all of them."""
    first, second = heard(holder, X, "predict_proba", "predict")
    methods = ["predict", "predict_proba"]
    wanted = {"form": "matrix", "width": 3, "methods": methods, "not_finite": []}
    assert (wanted, wanted) == (first.constants, second.constants)
    assert first.form == second.form


def test_a_graph_answers_in_its_place(holder: Holder) -> None:
    """In the shapes and dtypes of the estimator's own answers."""
    expected = holder.model
    graph = exchanged(holder, X, "predict", "predict_proba")
    labels, probabilities = holder.model.predict(X), holder.model.predict_proba(X)
    assert {"yes"} == set(labels)
    assert (expected.predict(X).dtype, (40,)) == (labels.dtype, labels.shape)
    assert [[0.0, 1.0]] * 40 == probabilities.tolist()
    assert (np.float64, (40, 2)) == (probabilities.dtype, probabilities.shape)
    assert [X.tolist()] * 2 == [arrays[0].tolist() for arrays in graph.given]


def test_scores_of_two_classes_are_those_of_the_second(holder: Holder) -> None:
    """A graph gives both, and the estimator one."""
    exchanged(holder, X, "decision_function")
    assert [1.0] * 40 == holder.model.decision_function(X).tolist()


def test_numbers_of_a_regressor_have_its_shape() -> None:
    """Graphs give a column of them."""
    holder = Holder(linear.LinearRegression().fit(X, X[:, 0]))
    call = heard(holder, X, "predict")[0]
    part = part_at(holder, "sklearn", ("model",))
    part.exchange(lambda arrays: [arrays[0][:, :1] + 1], INPUTS, call.constants)
    assert (X[:, 0] + 1).tolist() == holder.model.predict(X).tolist()


def test_all_else_is_still_the_estimator() -> None:
    """Its class, its attributes, its steps."""
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear.LogisticRegression()).fit(
        X, Y
    )
    holder = Holder(model)
    exchanged(holder, X, "predict")
    assert isinstance(holder.model, pipeline.Pipeline)
    assert ["no", "yes"] == list(holder.model.classes_)
    assert (2, model.steps[1][1]) == (len(holder.model), holder.model[-1])
    assert model.predict_log_proba(X).tolist() == holder.model.predict_log_proba(X).tolist()


def wide(model: Any) -> Any:
    return model.predict_proba(X.astype("longdouble"))


def listed(model: Any) -> Any:
    return model.predict_proba(X.tolist())


def framed(model: Any) -> Any:
    return model.predict_proba(pd.DataFrame(X, columns=["a", "b", "c"]))


def by_another_method(model: Any) -> Any:
    return model.predict(X)


def scored(model: Any) -> Any:
    return model.decision_function(X)


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("ask", [wide, listed, framed, by_another_method, scored])
def test_what_the_graph_was_not_made_for_goes_to_the_estimator(holder: Holder, ask: Any) -> None:
    """Another form, another dtype, another method."""
    expected = ask(holder.model)
    graph = exchanged(holder, X, "predict_proba")
    assert expected.tolist() == ask(holder.model).tolist()
    assert [] == graph.given


def test_a_table_of_another_width_is_refused_as_ever(holder: Holder) -> None:
    """By the estimator, which says why."""
    exchanged(holder, X, "predict")
    with pytest.raises(ValueError, match="expecting 3 features"):
        holder.model.predict(X[:, :2])


def test_smaller_numbers_are_widened(holder: Holder) -> None:
    """Where nothing is lost by it."""
    graph = exchanged(holder, X, "predict")
    holder.model.predict(X.astype("float32"))
    holder.model.predict(X.astype("int32"))
    assert ["float64", "float64"] == [str(arrays[0].dtype) for arrays in graph.given]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_goes_to_the_estimator(holder: Holder, value: float) -> None:
    """It refuses such rows, of which a graph makes an answer like any other."""
    exchanged(holder, X, "predict_proba")
    holder.model.predict_proba(X)
    odd = X.copy()
    odd[3, 1] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        holder.model.predict_proba(odd)


def test_values_may_miss_where_they_did_before() -> None:
    """In the columns in which they did while the estimator was listened to."""
    impute = pytest.importorskip("sklearn.impute")
    holder = Holder(
        pipeline.make_pipeline(impute.SimpleImputer(), linear.LogisticRegression()).fit(X, Y)
    )
    first, second = X.copy(), X.copy()
    first[0, 1] = second[0, 2] = np.nan
    graph = exchanged(holder, first, "predict")
    assert {"yes"} == set(holder.model.predict(first))
    assert {"no", "yes"} == set(holder.model.predict(second))
    assert 1 == len(graph.given)


def test_the_estimator_answers_when_the_graph_fails(holder: Holder) -> None:
    """It knows what is wrong, and says so, or knows better."""
    expected = holder.model.predict(X)
    call = heard(holder, X, "predict")[0]

    def failing(arrays: Any) -> Any:
        raise RuntimeError("unknown category")

    part_at(holder, "sklearn", ("model",)).exchange(failing, INPUTS, call.constants)
    assert expected.tolist() == holder.model.predict(X).tolist()


@pytest.mark.parametrize("of", [list, tuple, np.array, pd.Series])
def test_texts_are_given_in_any_list(of: Any) -> None:
    """As one array of them."""
    holder = Holder(
        pipeline.make_pipeline(text.CountVectorizer(), linear.LogisticRegression()).fit(TEXTS, Y)
    )
    graph = exchanged(holder, of(TEXTS), "predict")
    holder.model.predict(of(TEXTS[:2]))
    assert [["good day", "bad day"]] == [arrays[0].tolist() for arrays in graph.given]


FRAME = pd.DataFrame({"a b": X[:, 0], "n": np.arange(40), "ok": X[:, 1] > 0, "text": TEXTS})


class OfFrames(linear.LogisticRegression):
    """Takes what it is given for the three numbers it knows."""

    def predict(self, X: Any) -> Any:
        return np.array(["no"] * len(X))


@pytest.fixture
def framed_holder() -> Holder:
    return Holder(OfFrames().fit(X, Y))


def test_a_frame_is_given_by_its_columns(framed_holder: Holder) -> None:
    """Each as an input of its own, with its name and of one of four dtypes."""
    graph = exchanged(framed_holder, FRAME, "predict")
    framed_holder.model.predict(FRAME[1:3])
    (arrays,) = graph.given
    assert ["float64", "int64", "int64", "object"] == [str(array.dtype) for array in arrays]
    assert [[1, 2], ["bad day", "good"]] == [arrays[i][:, 0].tolist() for i in (1, 3)]


@pytest.mark.parametrize(
    "other",
    [FRAME[["n", "a b", "ok", "text"]], FRAME[["a b", "n", "ok"]], FRAME.assign(n=0.5)],
    ids=["in another order", "with fewer columns", "of another dtype"],
)
def test_a_frame_of_other_columns_goes_to_the_estimator(framed_holder: Holder, other: Any) -> None:
    """The graph knows its columns by their places alone."""
    graph = exchanged(framed_holder, FRAME, "predict")
    assert {"no"} == set(framed_holder.model.predict(other))
    assert [] == graph.given


def test_missing_texts_go_to_the_estimator(framed_holder: Holder) -> None:
    """No graph can tell them from empty ones; nor is one made for them."""
    odd = FRAME.assign(text=[None, *TEXTS[1:]])
    assert [] == heard(framed_holder, odd, "predict")
    graph = exchanged(framed_holder, FRAME, "predict")
    assert {"no"} == set(framed_holder.model.predict(odd))
    assert [] == graph.given


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([[1.0]], "given a list"),
        (FRAME.assign(n=pd.Categorical(TEXTS)), "column 'n' of category"),
        (FRAME.assign(n=[object()] * 40), "column 'n' of object"),
        (FRAME.set_axis([1, 2, 3, 4], axis=1), "columns have no names"),
    ],
)
def test_what_no_graph_can_be_given_is_said(framed_holder: Holder, table: Any, reason: str) -> None:
    """While the estimator is listened to."""
    with pytest.raises(CheckpointError, match=reason):
        heard(framed_holder, table, "predict")


def test_options_of_a_call_are_refused() -> None:
    """They change what the numbers mean."""
    process = pytest.importorskip("sklearn.gaussian_process")
    holder = Holder(process.GaussianProcessRegressor().fit(X, X[:, 0]))
    part = part_at(holder, "sklearn", ("model",))
    with part.listening(), pytest.raises(CheckpointError, match="more than a table"):
        holder.model.predict(X, return_std=True)


@pytest.mark.parametrize(
    "constants", [{}, {"methods": ["predict"]}, {"methods": ["transform"], "form": "matrix"}]
)
def test_a_graph_of_another_kind_does_not_fit(holder: Holder, constants: Any) -> None:
    """It was made of something else."""
    with pytest.raises(CheckpointError, match="another kind of part"):
        part_at(holder, "sklearn", ("model",)).exchange(Graph(), INPUTS, constants)


def test_an_estimator_within_another_is_no_part_of_its_own(holder: Holder) -> None:
    """The outermost is exchanged."""
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear.LogisticRegression()).fit(
        X, Y
    )
    assert [("model",)] == list(parts_of(Holder(model)))
