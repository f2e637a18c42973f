"""Estimators of scikit-learn as graphs, against the estimators themselves.

Doubles are kept: what is linear agrees to about 1e-15, forests of classifiers agree exactly, and
other trees, whose leaves are floats in a graph, to about 1e-7; so do texts, which are counted in
floats.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salver.errors import CheckpointError
from salver.models.frameworks.sklearn import Estimator
from salver.models.variants.parts import parts_of
from salver.models.variants.runtimes import open_runtime
from salver.optimization.export_sklearn import to_onnx

pd = pytest.importorskip("pandas")
pytest.importorskip("skl2onnx")
pytest.importorskip("onnxruntime")
compose = pytest.importorskip("sklearn.compose")
ensemble = pytest.importorskip("sklearn.ensemble")
impute = pytest.importorskip("sklearn.impute")
linear = pytest.importorskip("sklearn.linear_model")
preprocessing = pytest.importorskip("sklearn.preprocessing")
svm = pytest.importorskip("sklearn.svm")
text = pytest.importorskip("sklearn.feature_extraction.text")
tree = pytest.importorskip("sklearn.tree")
pipe = pytest.importorskip("sklearn.pipeline").make_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
RNG = np.random.default_rng(0)
# On a grid far from zero, where floats are coarse: thresholds fall on values of other rows.
X = np.round(RNG.normal(size=(600, 4)), 2) + 1000
NUMBER = (X[:, 0] - 1000) * 3 + X[:, 1] * X[:, 2] / 1000
LABEL = np.array(["no", "perhaps", "yes"])[np.digitize(NUMBER + RNG.normal(size=600), [999, 1001])]
BINARY = LABEL == "yes"
FIT, ASKED = slice(0, 300), slice(200, 600)


class Holder:
    """As users hold an estimator."""

    def __init__(self, model: Any) -> None:
        self.model = model


class Counted:
    """A runtime that counts how often it answers."""

    def __init__(self, path: Path) -> None:
        self.run = open_runtime("onnxruntime", path, "fp32")
        self.answers = 0

    def __call__(self, arrays: Any) -> Any:
        found = self.run(arrays)
        self.answers += 1
        return found


def exchanged(model: Any, table: Any, path: Path, *methods: str) -> tuple[Any, Counted]:
    """What stands in the estimator's place, and the graph, made for such a table."""
    holder = Holder(model)
    (part,) = parts_of(holder).values()
    with part.listening() as calls:
        for method in methods:
            getattr(holder.model, method)(table)
    to_onnx(part, calls, path / "model.onnx")  # type: ignore[arg-type]
    inputs = [(name, str(array.dtype)) for name, array in calls[0].arrays.items()]
    graph = Counted(path / "model.onnx")
    part.exchange(graph, inputs, json.loads(json.dumps(dict(calls[0].constants))))
    return holder.model, graph


def check(model: Any, table: Any, path: Path, within: float = 1e-12) -> None:
    """Fits, exchanges and compares on other rows.

    Labels exactly, numbers relatively to the largest of them.
    """
    is_classifier = hasattr(model, "predict_proba")
    model.fit(table[FIT], (LABEL if is_classifier else NUMBER)[FIT])
    methods = ("predict", "predict_proba") if is_classifier else ("predict",)
    compare(model, table, path, within, *methods)


def compare(model: Any, table: Any, path: Path, within: float, *methods: str) -> None:
    """Compares the answers of a fitted estimator."""
    stand_in, graph = exchanged(model, table[FIT], path, *methods)
    for method in methods:
        wanted, found = (
            getattr(model, method)(table[ASKED]),
            getattr(stand_in, method)(table[ASKED]),
        )
        assert (wanted.shape, wanted.dtype) == (found.shape, found.dtype)
        if wanted.dtype.kind == "f":
            assert np.abs(wanted - found).max() <= within * max(1, np.abs(wanted).max())
        else:
            assert wanted.tolist() == found.tolist()
    assert len(methods) == graph.answers


SCALED = preprocessing.StandardScaler
MODELS = {
    "logistic regression": (linear.LogisticRegression(max_iter=500), 1e-12),
    "scaled logistic regression": (pipe(SCALED(), linear.LogisticRegression()), 1e-12),
    "forest": (ensemble.RandomForestClassifier(20, random_state=0), 1e-6),
    "scaled forest": (pipe(SCALED(), ensemble.RandomForestClassifier(20, random_state=0)), 1e-6),
    "extra trees": (ensemble.ExtraTreesClassifier(10, min_samples_leaf=3, random_state=0), 1e-6),
    "tree": (tree.DecisionTreeClassifier(random_state=0), 1e-6),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0), 1e-6),
    "scaled boosting": (pipe(SCALED(), ensemble.GradientBoostingClassifier(random_state=0)), 1e-6),
    "histograms": (ensemble.HistGradientBoostingClassifier(max_iter=10, random_state=0), 1e-6),
    "scaled histograms": (
        pipe(SCALED(), ensemble.HistGradientBoostingClassifier(random_state=0)),
        1e-6,
    ),
    "ridge": (linear.Ridge(), 1e-12),
    "scaled forest of numbers": (
        pipe(SCALED(), ensemble.RandomForestRegressor(10, random_state=0)),
        1e-6,
    ),
    "boosting of numbers": (
        ensemble.GradientBoostingRegressor(n_estimators=10, random_state=0),
        1e-6,
    ),
    "scaled histograms of numbers": (
        pipe(SCALED(), ensemble.HistGradientBoostingRegressor(random_state=0)),
        1e-6,
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "int64"])
@pytest.mark.parametrize("name", MODELS)
def test_a_matrix_of_numbers(name: str, dtype: str, tmp_path: Path) -> None:
    """No row takes another way through a tree, however near it is to a threshold."""
    model, within = MODELS[name]
    check(model, X.astype(dtype), tmp_path, within)


@pytest.mark.parametrize("name", [name for name in MODELS if "scaled" not in name])
def test_a_matrix_of_floats(name: str, tmp_path: Path) -> None:
    """What scikit-learn computes in floats is computed in doubles.

    So where floats are compared with thresholds after a step in floats, rows may take another way.
    """
    check(MODELS[name][0], X.astype("float32"), tmp_path, 1e-5)


def test_a_tie_of_a_forest_stays_one(tmp_path: Path) -> None:
    """Of two classes with as many votes it takes the first, as ever."""
    model = ensemble.RandomForestClassifier(4, max_features=1, random_state=0)
    model.fit(X[FIT], BINARY[FIT])
    assert (model.predict_proba(X[ASKED])[:, 0] == 0.5).any()
    compare(model, X, tmp_path, 0.0, "predict", "predict_proba")


@pytest.mark.parametrize(
    "model",
    [
        pipe(impute.SimpleImputer(), preprocessing.StandardScaler(), linear.LogisticRegression()),
        ensemble.RandomForestClassifier(10, random_state=0),
        ensemble.ExtraTreesRegressor(10, random_state=0),
        ensemble.HistGradientBoostingRegressor(max_iter=10, random_state=0),
    ],
)
def test_missing_values_go_where_they_went(model: Any, tmp_path: Path) -> None:
    """Into the mean, or down the side of a tree that was learned."""
    table = X.copy()
    table[RNG.random(X.shape) < 0.1] = np.nan
    check(model, table, tmp_path, 1e-6)


@pytest.mark.parametrize(
    "model", [svm.LinearSVC(), pipe(preprocessing.StandardScaler(), svm.LinearSVC())]
)
@pytest.mark.parametrize("labels", [LABEL, BINARY])
def test_scores(model: Any, labels: Any, tmp_path: Path) -> None:
    """Where there are no probabilities; of two classes there is one score."""
    compare(model.fit(X[FIT], labels[FIT]), X, tmp_path, 1e-3, "predict", "decision_function")


def test_scores_where_probabilities_were_not_asked_for(tmp_path: Path) -> None:
    """Those of the estimator, before they are made probabilities."""
    model = linear.LogisticRegression().fit(X[FIT], LABEL[FIT])
    compare(model, X, tmp_path, 1e-12, "predict", "decision_function")


FRAME = pd.DataFrame(
    {
        "label": X[:, 0],
        "income €": np.where(RNG.random(600) < 0.1, np.nan, X[:, 1]),
        "a city": RNG.choice(["Köln", "Ulm", "Bonn"], 600),
        "floor": RNG.integers(0, 5, 600),
        "new": X[:, 2] > 1000,
        "said": RNG.choice(["a fine flat", "Über den Dächern", "small; and loud!"], 600),
    }
)
NUMBERS = pipe(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())


@pytest.mark.parametrize(
    "model",
    [
        linear.LogisticRegression(),
        ensemble.RandomForestClassifier(10, random_state=0),
        linear.Ridge(),
    ],
)
@pytest.mark.parametrize("sparse", [True, False])
def test_a_frame_of_numbers_and_texts(model: Any, sparse: bool, tmp_path: Path) -> None:
    """By names that are no identifiers, or those of outputs, and with columns that nobody uses."""
    onehot = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=sparse)
    columns = compose.make_column_transformer(
        (NUMBERS, ["label", "income €"]), (onehot, ["a city", "floor"]), ("passthrough", ["new"])
    )
    check(pipe(columns, model), FRAME, tmp_path)


def test_texts_in_a_frame(tmp_path: Path) -> None:
    """Beside numbers, which stay doubles."""
    columns = compose.make_column_transformer(
        (text.TfidfVectorizer(), "said"), (preprocessing.StandardScaler(), ["label"])
    )
    check(pipe(columns, linear.LogisticRegression()), FRAME, tmp_path, 1e-6)


@pytest.mark.parametrize(
    "model", [linear.LogisticRegression(), ensemble.ExtraTreesClassifier(5, random_state=0)]
)
def test_a_frame_of_numbers(model: Any, tmp_path: Path) -> None:
    """Which an estimator takes as a matrix."""
    check(model, FRAME[["label", "floor", "new"]], tmp_path)


WORDS = ("Über", "naïve", "Straße", "it's", "data-set", "x", "y1", "_ing", "3.14", "привет", "Ёж")
WORDS += ("数据", "data", "हिन्दी", "I", "😀", "the", "a", "of")
SAID = np.array(
    [" ".join(RNG.choice(WORDS, 1 + i % 9)) + "!\n?"[: i % 4] for i in range(600)], object
)


@pytest.mark.parametrize(
    "vectorizer",
    [
        text.TfidfVectorizer(),
        text.TfidfVectorizer(ngram_range=(1, 2)),
        text.TfidfVectorizer(lowercase=False, token_pattern=r"(?u)\b\w+\b"),
        text.CountVectorizer(stop_words=["the", "of"]),
    ],
)
def test_texts(vectorizer: Any, tmp_path: Path) -> None:
    """In all scripts, they are taken apart into the same words."""
    check(pipe(vectorizer, linear.LogisticRegression()), SAID, tmp_path, 1e-6)


def test_texts_of_letters_do_not_crash(tmp_path: Path) -> None:
    """Their graph is wrong, and the gate's to refuse."""
    model = pipe(text.TfidfVectorizer(analyzer="char"), linear.LogisticRegression())
    stand_in, graph = exchanged(model.fit(SAID, LABEL), SAID, tmp_path, "predict_proba")
    assert (600, 3) == stand_in.predict_proba(SAID).shape
    assert 1 == graph.answers


def test_a_model_of_mlflow_answers_the_same(tmp_path: Path) -> None:
    """Its adapter asks one estimator for both."""
    adapter = Estimator(linear.LogisticRegression().fit(X, LABEL))
    expected = adapter({"input": X})
    (part,) = parts_of(adapter).values()
    with part.listening() as calls:
        adapter({"input": X})
    to_onnx(part, calls, tmp_path / "model.onnx")  # type: ignore[arg-type]
    graph = Counted(tmp_path / "model.onnx")
    part.exchange(graph, [("X", "float64")], calls[0].constants)
    found = adapter({"input": X})
    assert np.allclose(expected["probabilities"], found["probabilities"], rtol=0, atol=1e-12)
    assert expected["prediction"].tolist() == found["prediction"].tolist()
    assert 2 == graph.answers


def test_an_unknown_category_is_refused_as_ever(tmp_path: Path) -> None:
    """By the estimator, where its graph fails."""
    model = pipe(preprocessing.OneHotEncoder(sparse_output=False), linear.LogisticRegression())
    columns = FRAME[["a city"]]
    stand_in, _ = exchanged(model.fit(columns, LABEL), columns, tmp_path, "predict")
    assert 600 == len(stand_in.predict(columns))
    with pytest.raises(ValueError, match="Found unknown categories"):
        stand_in.predict(pd.DataFrame({"a city": ["Rome"]}))


def test_an_encoder_whose_refusals_a_graph_would_not_know(tmp_path: Path) -> None:
    """Is refused itself."""
    columns = compose.make_column_transformer((preprocessing.OrdinalEncoder(), ["a city"]))
    model = pipe(columns, linear.LogisticRegression()).fit(FRAME, LABEL)
    with pytest.raises(CheckpointError, match="OrdinalEncoder refuses a category"):
        exchanged(model, FRAME, tmp_path, "predict")


def test_what_cannot_be_converted_is_said(tmp_path: Path) -> None:
    """And leaves no file."""
    model = compose.TransformedTargetRegressor(linear.Ridge(), func=np.cbrt, inverse_func=np.exp)
    model.check_inverse = False
    with pytest.raises(CheckpointError, match="cannot convert this TransformedTargetRegressor"):
        exchanged(model.fit(X, NUMBER), X, tmp_path, "predict")
    assert [] == list(tmp_path.iterdir())
