"""Boosters as graphs, against the boosters themselves.

LightGBM compares doubles and so does its graph; sums are floats, so that they agree to about 1e-7.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salver.errors import CheckpointError, MissingExtra
from salver.models.variants.booster_part import BoosterPart
from salver.models.variants.parts import parts_of
from salver.models.variants.runtimes import open_runtime
from salver.optimization import export_booster, export_sklearn

pd = pytest.importorskip("pandas")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
pytest.importorskip("onnxmltools")
pytest.importorskip("onnxruntime")
preprocessing = pytest.importorskip("sklearn.preprocessing")
pipe = pytest.importorskip("sklearn.pipeline").make_pipeline

RNG = np.random.default_rng(0)
# On a grid far from zero, where floats are coarse: thresholds fall on values of other rows.
X = np.round(RNG.normal(size=(900, 4)), 2) + 1000
X[RNG.random(X.shape) < 0.05] = np.nan
NUMBER = np.nan_to_num(X[:, 0] - 1000) * 3 + np.nan_to_num(X[:, 1] - 1000)
LABEL = np.digitize(NUMBER, [-1, 1])
FIT, ASKED = slice(0, 500), slice(300, 900)
FEW = {"verbose": -1, "num_threads": 1}


class Holder:
    """As users hold a booster."""

    def __init__(self, model: Any) -> None:
        self.model = model


def exchanged(part: Any, exporter: Any, path: Path, ask: Any) -> list[int]:
    """Exchanged for a graph; the list grows with each of its answers."""
    with part.listening() as calls:
        ask()
    exporter.to_onnx(part, calls, path / "model.onnx")
    runtime = open_runtime("onnxruntime", path / "model.onnx", "fp32")
    answers: list[int] = []

    def run(arrays: Any) -> Any:
        answers.append(len(arrays[0]))
        return runtime(arrays)

    inputs = [(name, str(array.dtype)) for name, array in calls[0].arrays.items()]
    part.exchange(run, inputs, json.loads(json.dumps(dict(calls[0].constants))))
    return answers


def check(model: Any, table: Any, path: Path, **options: Any) -> None:
    """Exchanges a booster and compares it on other rows."""
    holder = Holder(model)
    part = BoosterPart(model, holder, "model")

    def ask(one: Any, rows: slice) -> Any:
        return getattr(one, part.method)(table[rows], **options)

    answers = exchanged(part, export_booster, path, lambda: ask(holder.model, FIT))
    expected, found = ask(model, ASKED), ask(holder.model, ASKED)
    assert (expected.shape, expected.dtype, [600]) == (found.shape, found.dtype, answers)
    assert np.abs(expected - found).max() <= 1e-6 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("objective", ["regression", "binary", "multiclass", "poisson"])
def test_a_booster_of_lightgbm(objective: str, tmp_path: Path) -> None:
    """Numbers, one probability or several; and missing values go where they went."""
    truth = {"regression": NUMBER, "binary": LABEL == 1}.get(objective, LABEL)
    options = {**FEW, "objective": objective, "num_class": 3 if objective == "multiclass" else 1}
    model = lightgbm.train(options, lightgbm.Dataset(X[FIT], truth[FIT]), 20)
    check(model, X, tmp_path)


def test_categories_of_lightgbm(tmp_path: Path) -> None:
    """Sets of codes, on which its trees part."""
    table = np.nan_to_num(X, nan=1000)
    table[:, 0] = np.arange(900) % 7
    truth = np.isin(table[:, 0], [1, 4, 6]) + table[:, 1] - 1000
    data = lightgbm.Dataset(table[FIT], truth[FIT], categorical_feature=[0])
    check(lightgbm.train(FEW, data, 20), table, tmp_path)


def test_a_frame_for_lightgbm(tmp_path: Path) -> None:
    """Whose columns it takes in their order."""
    frame = pd.DataFrame(X, columns=["a b", "label", "€", "d"]).assign(n=np.arange(900))
    model = lightgbm.train(FEW, lightgbm.Dataset(frame[FIT], NUMBER[FIT]), 20)
    check(model, frame, tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logistic", "multi:softprob"])
def test_a_booster_of_xgboost(objective: str, dtype: str, tmp_path: Path) -> None:
    """Which takes all numbers for floats."""
    truth = {"reg:squarederror": NUMBER, "binary:logistic": LABEL == 1}.get(objective, LABEL)
    options = {"nthread": 1, "objective": objective}
    options |= {"num_class": 3} if "multi" in objective else {}
    table = X.astype(dtype)
    model = xgboost.train(options, xgboost.DMatrix(table[FIT], truth[FIT]), 20)
    check(model, table, tmp_path)


def test_some_trees_of_xgboost(tmp_path: Path) -> None:
    """As many as it is asked for."""
    model = xgboost.train({"nthread": 1}, xgboost.DMatrix(X[FIT], NUMBER[FIT]), 20)
    check(model, X, tmp_path, iteration_range=(0, 5))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_boosters_with_the_face_of_scikit_learn(name: str, scaled: bool, tmp_path: Path) -> None:
    """Alone and in a pipeline, where LightGBM is given doubles."""
    model: Any = xgboost.XGBClassifier(n_estimators=20, n_jobs=1)
    if name == "lightgbm":
        model = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1)
    if scaled:
        model = pipe(preprocessing.StandardScaler(), model)
    holder = Holder(model.fit(X[FIT], LABEL[FIT]))
    (part,) = parts_of(holder).values()
    answers = exchanged(part, export_sklearn, tmp_path, lambda: holder.model.predict_proba(X[FIT]))
    difference = model.predict_proba(X[ASKED]) - holder.model.predict_proba(X[ASKED])
    assert [600] == answers
    assert np.abs(difference).max() <= 1e-6


FRAME = pd.DataFrame(np.float32(X), columns=["a b", "label", "€", "d"])


def test_features_of_xgboost_have_any_names(tmp_path: Path) -> None:
    """As such, and with the face of scikit-learn."""
    model = xgboost.train({"nthread": 1}, xgboost.DMatrix(FRAME[FIT], NUMBER[FIT]), 20)
    check(model, FRAME, tmp_path)
    estimator = xgboost.XGBRegressor(n_estimators=20, n_jobs=1).fit(FRAME[FIT], NUMBER[FIT])
    holder = Holder(estimator)
    (part,) = parts_of(holder).values()
    answers = exchanged(part, export_sklearn, tmp_path, lambda: holder.model.predict(FRAME[FIT]))
    expected, found = estimator.predict(FRAME[ASKED]), holder.model.predict(FRAME[ASKED])
    assert np.abs(expected - found).max() <= 1e-5
    assert ([600], ["a b", "label", "€", "d"]) == (answers, list(estimator.feature_names_in_))


def test_categories_of_xgboost_are_refused(tmp_path: Path) -> None:
    """Its converter does not know them."""
    table = FRAME.assign(c=pd.Categorical(np.arange(900) % 3))
    data = xgboost.DMatrix(table[FIT], NUMBER[FIT], enable_categorical=True)
    model = xgboost.train({"nthread": 1}, data, 2)
    with pytest.raises(CheckpointError, match="It has categories"):
        check(model, np.column_stack([X, np.arange(900) % 3]), tmp_path)


def test_options_that_no_graph_follows_are_refused(tmp_path: Path) -> None:
    """They ask for other numbers than the booster's own."""
    model = lightgbm.train(FEW, lightgbm.Dataset(X[FIT], NUMBER[FIT]), 2)
    with pytest.raises(CheckpointError, match="raw_score=True"):
        check(model, X, tmp_path, raw_score=True)


def test_a_forest_of_lightgbm_is_refused(tmp_path: Path) -> None:
    """Whose trees its converter divides by 100, however many there are."""
    options = {**FEW, "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
    model = lightgbm.train(options, lightgbm.Dataset(X[FIT], NUMBER[FIT]), 5)
    with pytest.raises(CheckpointError, match="random forest"):
        check(model, X, tmp_path)


def test_what_cannot_be_converted_is_said(tmp_path: Path) -> None:
    """And leaves no file."""
    options = {"nthread": 1, "booster": "dart"}
    model = xgboost.train(options, xgboost.DMatrix(X[FIT], NUMBER[FIT]), 2)
    with pytest.raises(CheckpointError, match="cannot convert"):
        check(model, X, tmp_path)
    assert [] == list(tmp_path.iterdir())


def test_onnxmltools_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which is said with the extra that has it."""
    model = lightgbm.train(FEW, lightgbm.Dataset(X[FIT], NUMBER[FIT]), 2)
    monkeypatch.setattr(export_booster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="onnxmltools"):
        check(model, X, tmp_path)
    assert [] == export_booster.faces()
