"""XGBoost: what it says itself is what a model by URI answers, online and offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow.xgboost
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow.models import infer_signature

from frameworks.asking import Asker
from frameworks.in_process import answers, described_of
from salver.errors import CheckpointError

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "age (years)": RNG.normal(50, 9, 90),
        "income": RNG.normal(size=90),
        "n": RNG.integers(0, 9, 90),
    }
)
TABLE.loc[::7, "income"] = np.nan
ROWS = json.loads(TABLE.to_json(orient="records"))  # missing values are null
BINARY = (TABLE["age (years)"] + TABLE["n"] > 54).astype(int)
THREE = np.digitize(TABLE["age (years)"], [46, 53])


def probabilities(model: Any, inputs: Any) -> dict[str, Any]:
    return {"prediction": model.predict(inputs), "probabilities": model.predict_proba(inputs)}


def test_an_estimator_stopped_early_by_alias(asker: Asker) -> None:
    """It answers as the estimator did, with the best trees and with missing values."""
    model = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, max_depth=3)
    model.fit(TABLE[:60], THREE[:60], eval_set=[(TABLE[60:], THREE[60:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    mlflow.xgboost.log_model(
        model, name="model", pip_requirements=[], signature=infer_signature(TABLE, THREE),
        registered_model_name="rich",
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("rich", "champion", "1")
    asker.agree("models:/rich@champion", ROWS, probabilities(model, TABLE))


@pytest.mark.parametrize("suffix", ["ubj", "json"])
def test_a_bare_file_names_its_features(asker: Asker, tmp_path: Path, suffix: str) -> None:
    """Rows are objects of the features' names, and the label is that of the larger probability."""
    model = xgboost.XGBClassifier(n_estimators=5).fit(TABLE, BINARY)
    where = tmp_path / f"booster.{suffix}"
    model.save_model(where)
    expected = probabilities(model, TABLE)
    if suffix == "ubj":
        asker.agree(str(where), ROWS, expected)
    else:
        found = answers(where, TABLE)
        np.testing.assert_allclose(found["probabilities"], expected["probabilities"], 1e-6)


def test_a_booster_of_xgboost_train_answers_with_all_its_trees(tmp_path: Path) -> None:
    """As its own predict does, though it was stopped early."""
    data = xgboost.DMatrix(TABLE, TABLE["n"])
    booster = xgboost.train(
        {"objective": "count:poisson"},
        data,
        40,
        evals=[(xgboost.DMatrix(TABLE, TABLE["n"][::-1]), "other")],
        early_stopping_rounds=2,
        verbose_eval=False,
    )
    booster.save_model(tmp_path / "model.ubj")
    found = answers(tmp_path / "model.ubj", TABLE)
    np.testing.assert_allclose(found["prediction"], booster.predict(data), 1e-6)


@pytest.mark.parametrize("objective", ["multi:softmax", "multi:softprob"])
def test_several_classes_of_a_booster(tmp_path: Path, objective: str) -> None:
    """Both objectives give probabilities; the labels are those of softmax."""
    data = xgboost.DMatrix(TABLE, THREE)
    given = {"num_class": 3, "seed": 0}
    other = xgboost.train({"objective": "multi:softprob", **given}, data, 4)
    xgboost.train({"objective": objective, **given}, data, 4).save_model(tmp_path / "model.json")
    found = answers(tmp_path / "model.json", TABLE)
    np.testing.assert_allclose(found["probabilities"], other.predict(data), 1e-5)


def test_a_model_trained_on_arrays_takes_lists_of_numbers(tmp_path: Path) -> None:
    """The features have no names then, and the signature has their number."""
    inputs = TABLE[["age (years)", "n"]].to_numpy()
    model = xgboost.XGBRegressor(n_estimators=5).fit(inputs, TABLE["n"])
    model.save_model(tmp_path / "model.ubj")
    (column,) = described_of(tmp_path / "model.ubj").signature.columns
    assert ("input", "float32", (2,)) == (column.name, column.dtype, column.shape)
    found = answers(tmp_path / "model.ubj", {"input": list(inputs)})
    np.testing.assert_allclose(found["prediction"], model.predict(inputs), 1e-6)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    """A signature in another order than that of training asks for the same features."""
    model = xgboost.XGBRegressor(n_estimators=5).fit(TABLE, TABLE["n"])
    turned = TABLE[TABLE.columns[::-1]]
    mlflow.xgboost.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(turned)
    )
    found = answers(tmp_path / "m", turned)
    np.testing.assert_allclose(found["prediction"], model.predict(TABLE), 1e-6)


def test_labels_that_do_not_exclude_each_other(tmp_path: Path) -> None:
    """A classifier of several targets gives a label and a score for each."""
    labels = np.column_stack([BINARY, THREE > 1, THREE < 1]).astype(int)
    model = xgboost.XGBClassifier(n_estimators=5).fit(TABLE, labels)
    model.save_model(tmp_path / "model.ubj")
    found = answers(tmp_path / "model.ubj", TABLE)
    assert model.predict(TABLE).tolist() == found["prediction"].tolist()
    np.testing.assert_allclose(found["score"], model.predict_proba(TABLE), 1e-6)


def with_category(names: list[Any]) -> pd.DataFrame:
    city = pd.Categorical(RNG.choice(names, 90), categories=names)
    table = pd.DataFrame({"n": TABLE["n"], "city": city})
    table.loc[4, "city"] = None
    return table


@pytest.mark.parametrize("names", [["Graz", "Ulm", "Bonn"], [7, 3, 5]])
def test_categories_are_given_by_their_names(tmp_path: Path, names: list[Any]) -> None:
    """They stand in the file; one that is missing is null."""
    table = with_category(names)
    model = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True)
    model.fit(table, table["city"] == names[0])
    model.save_model(tmp_path / "model.ubj")
    columns = described_of(tmp_path / "model.ubj").signature.columns
    assert [(type(names[0]) is str and "str") or "int64"] == [columns[1].dtype]
    found = answers(tmp_path / "model.ubj", table)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(table), 1e-6)


def test_a_category_that_is_not_known_is_an_error_of_the_row(tmp_path: Path) -> None:
    """As it is in XGBoost."""
    table = with_category(["Graz", "Ulm"])
    model = xgboost.XGBRegressor(n_estimators=5, enable_categorical=True).fit(table, TABLE["n"])
    model.save_model(tmp_path / "model.ubj")
    with pytest.raises(ValueError, match="'city' is 'Rome', which is none of 'Graz', 'Ulm'"):
        answers(tmp_path / "model.ubj", {"n": [1], "city": ["Rome"]})


def test_categories_that_xgboost_does_not_keep_whole_are_refused(tmp_path: Path) -> None:
    """It would be asked about other categories than those that are given."""
    table = with_category(["Köln", "Ulm"])
    model = xgboost.XGBRegressor(n_estimators=5, enable_categorical=True).fit(table, TABLE["n"])
    model.save_model(tmp_path / "model.ubj")
    with pytest.raises(CheckpointError, match="ASCII"):
        described_of(tmp_path / "model.ubj")


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (TABLE[["n"]], "the model takes 3 features"),
        (TABLE.rename(columns={"n": "m"}), "the model was trained on 'age .years.', 'income', 'n'"),
        (TABLE.assign(n="x"), "the model takes numbers there"),
    ],
)
def test_a_signature_that_is_not_the_models_is_refused(
    tmp_path: Path, example: pd.DataFrame, why: str
) -> None:
    """When the model is loaded, with what it takes."""
    model = xgboost.XGBRegressor(n_estimators=2).fit(TABLE, TABLE["n"])
    mlflow.xgboost.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(example)
    )
    with pytest.raises(CheckpointError, match=why):
        answers(tmp_path / "m", example)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"{", b'{"learner": {}}', b"{L\x00"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """By what is in them, and nothing of them is run."""
    where = tmp_path / "model.ubj"
    where.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.ubj is no booster"):
        described_of(where)


def test_the_reason_for_a_refusal_is_one_line(tmp_path: Path) -> None:
    """It is what XGBoost says first, without the stack of its own code."""
    where = tmp_path / "model.json"
    where.write_bytes(b'{"a": 1,,}')
    with pytest.raises(CheckpointError, match=r"that XGBoost reads: .*Expecting") as refused:
        described_of(where)
    assert "\n" not in refused.value.message
    assert "Stack trace" not in refused.value.message


def test_a_linear_booster(tmp_path: Path) -> None:
    """It has no trees, so it is asked in another way."""
    table = TABLE.fillna(0.0)
    data = xgboost.DMatrix(table, table["n"])
    booster = xgboost.train({"booster": "gblinear", "objective": "reg:squarederror"}, data, 5)
    booster.save_model(tmp_path / "linear.ubj")
    found = answers(tmp_path / "linear.ubj", table)
    assert booster.predict(data).tolist() == found["prediction"].tolist()
