"""CatBoost: what it says itself is what a model by URI answers, online and offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow.catboost
import numpy as np
import pandas as pd
import pytest
from catboost import CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor, Pool
from mlflow.models import infer_signature

from frameworks.asking import Asker
from frameworks.in_process import answers, described_of
from salver.errors import CheckpointError

RNG = np.random.default_rng(0)
SMALL: dict[str, Any] = {"iterations": 6, "verbose": 0, "allow_writing_files": False}
TABLE = pd.DataFrame(
    {
        "age (years)": RNG.normal(50, 9, 90),
        "floor": RNG.integers(0, 4, 90),
        "city": RNG.choice(["Ulm", "Köln", "Graz"], 90),
        "about": RNG.choice(["a house by the sea", "a flat", "one more flat"], 90),
    }
)
TABLE.loc[::7, "age (years)"] = np.nan
ROWS = json.loads(TABLE.to_json(orient="records"))  # missing values are null
KINDS = {"cat_features": ["floor", "city"], "text_features": ["about"]}
NUMBERS = TABLE[["age (years)", "floor"]]
BINARY = np.where(TABLE["floor"] + (TABLE["city"] == "Ulm") > 2, "rich", "poor")


def probabilities(model: Any, inputs: Any) -> dict[str, Any]:
    labels = model.predict(inputs).reshape(-1)
    return {"prediction": labels, "probabilities": model.predict_proba(inputs)}


def test_a_classifier_by_alias(asker: Asker) -> None:
    """Class names, whole numbers and texts as categories, a feature of texts, missing numbers."""
    model = CatBoostClassifier(**SMALL).fit(TABLE, BINARY, **KINDS)
    mlflow.catboost.log_model(
        model, name="model", pip_requirements=[], signature=infer_signature(TABLE, BINARY),
        registered_model_name="rich",
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("rich", "champion", "1")
    asker.agree("models:/rich@champion", ROWS, probabilities(model, TABLE))


def test_a_bare_file_names_its_features_and_classes(asker: Asker, tmp_path: Path) -> None:
    """Three classes; what was a whole number in training may be given as its text."""
    labels = np.array(["low", "middle", "high"])[np.digitize(TABLE["floor"], [1, 3])]
    model = CatBoostClassifier(**SMALL).fit(TABLE, labels, **KINDS)
    where = tmp_path / "model.cbm"
    model.save_model(where)
    rows = [{**row, "floor": str(row["floor"])} for row in ROWS]
    asker.agree(str(where), rows, probabilities(model, TABLE))


def test_types_of_a_bare_file(tmp_path: Path) -> None:
    """Numbers may be missing, categories and texts not."""
    CatBoostClassifier(**SMALL).fit(TABLE, BINARY, **KINDS).save_model(tmp_path / "model.cbm")
    columns = described_of(tmp_path / "model.cbm").signature.columns
    assert [
        ("age (years)", "float64", False),
        ("floor", "str", True),
        ("city", "str", True),
        ("about", "str", True),
    ] == [(c.name, c.dtype, c.required) for c in columns]


def test_json(tmp_path: Path) -> None:
    """CatBoost's other format, bare and as MLflow logs it."""
    model = CatBoostClassifier(**SMALL).fit(NUMBERS, BINARY)
    model.save_model(tmp_path / "model.cbm.json", format="json")
    mlflow.catboost.save_model(
        model,
        tmp_path / "m",
        pip_requirements=[],
        signature=infer_signature(NUMBERS),
        format="json",
    )
    for where in (tmp_path / "model.cbm.json", tmp_path / "m"):
        assert "catboost" == described_of(where).framework
        found = answers(where, NUMBERS)
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(NUMBERS), 1e-12)


@pytest.mark.parametrize(
    "loss",
    ["RMSE", "Poisson", "Tweedie:variance_power=1.5", "RMSEWithUncertainty", "Quantile:alpha=0.3"],
)
def test_regressors_answer_as_their_class_does(tmp_path: Path, loss: str) -> None:
    """A count for Poisson, a mean and a variance where the loss has both."""
    model = CatBoostRegressor(loss_function=loss, **SMALL).fit(NUMBERS, TABLE["floor"])
    model.save_model(tmp_path / "model.cbm")
    found = answers(tmp_path / "model.cbm", NUMBERS)
    np.testing.assert_allclose(found["prediction"], model.predict(NUMBERS), 1e-12)


def test_a_ranker_answers_scores(tmp_path: Path) -> None:
    """One for each row, without groups."""
    data = Pool(NUMBERS, TABLE["floor"], group_id=np.arange(90) // 10)
    model = CatBoostRanker(**SMALL).fit(data)
    mlflow.catboost.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(NUMBERS)
    )
    found = answers(tmp_path / "m", NUMBERS)
    np.testing.assert_allclose(found["prediction"], model.predict(NUMBERS), 1e-12)


def test_the_threshold_that_was_set_decides(tmp_path: Path) -> None:
    """The label is not that of the larger probability then."""
    model = CatBoostClassifier(**SMALL).fit(NUMBERS, BINARY)
    model.set_probability_threshold(0.7)
    labels = model.predict(NUMBERS)
    largest = model.classes_[model.predict_proba(NUMBERS).argmax(axis=1)]
    assert (labels != largest).any()
    model.save_model(tmp_path / "model.cbm")
    assert labels.tolist() == answers(tmp_path / "model.cbm", NUMBERS)["prediction"].tolist()


def test_labels_that_do_not_exclude_each_other(tmp_path: Path) -> None:
    """One label and one score for each."""
    labels = np.column_stack([BINARY == "rich", TABLE["floor"] > 1]).astype(int)
    model = CatBoostClassifier(loss_function="MultiLogloss", **SMALL).fit(NUMBERS, labels)
    model.save_model(tmp_path / "model.cbm")
    found = answers(tmp_path / "model.cbm", NUMBERS)
    assert model.predict(NUMBERS).tolist() == found["prediction"].tolist()
    np.testing.assert_allclose(found["score"], model.predict_proba(NUMBERS), 1e-12)


def test_a_model_trained_on_arrays_takes_lists_of_numbers(tmp_path: Path) -> None:
    """The features have no names then, and the signature has their number."""
    inputs = NUMBERS.fillna(0).to_numpy()
    model = CatBoost({**SMALL, "loss_function": "MAE"}).fit(inputs, TABLE["floor"])
    model.save_model(tmp_path / "model.cbm")
    (column,) = described_of(tmp_path / "model.cbm").signature.columns
    assert ("input", "float64", (2,)) == (column.name, column.dtype, column.shape)
    found = answers(tmp_path / "model.cbm", {"input": list(inputs)})
    np.testing.assert_allclose(found["prediction"], model.predict(inputs), 1e-12)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    """CatBoost itself takes a category for a number if they come in another order."""
    model = CatBoostClassifier(**SMALL).fit(TABLE, BINARY, **KINDS)
    turned = TABLE[TABLE.columns[::-1]]
    mlflow.catboost.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(turned)
    )
    found = answers(tmp_path / "m", turned)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(TABLE), 1e-12)


def test_embeddings_with_a_signature(tmp_path: Path) -> None:
    """A list of numbers is one feature; without a signature its length is not known."""
    table = pd.DataFrame({"age": TABLE["floor"] * 1.0, "face": list(RNG.normal(size=(90, 3)))})
    model = CatBoostClassifier(**SMALL).fit(table, BINARY, embedding_features=["face"])
    model.save_model(tmp_path / "model.cbm")
    with pytest.raises(CheckpointError, match="embeddings"):
        described_of(tmp_path / "model.cbm")
    example = table.assign(face=[list(face) for face in table["face"]])
    mlflow.catboost.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(example)
    )
    found = answers(tmp_path / "m", table)
    expected = model.predict_proba(Pool(table, embedding_features=["face"]))
    np.testing.assert_allclose(found["probabilities"], expected, 1e-12)


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (NUMBERS, "the model takes 4 features"),
        (TABLE.rename(columns={"city": "town"}), "the model was trained on 'age .years.', 'floor'"),
        (TABLE.assign(floor=0.5), "the model takes texts or whole numbers there"),
        (TABLE.assign(about=1), "the model takes texts there"),
        (TABLE.assign(**{"age (years)": "x"}), "the model takes numbers there"),
        (NUMBERS.to_numpy(), "a row of shape"),
    ],
)
def test_a_signature_that_is_not_the_models_is_refused(
    tmp_path: Path, example: Any, why: str
) -> None:
    """When the model is loaded, with what it takes."""
    model = CatBoostClassifier(**SMALL).fit(TABLE, BINARY, **KINDS)
    mlflow.catboost.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(example)
    )
    with pytest.raises(CheckpointError, match=why):
        answers(tmp_path / "m", TABLE)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"CBM1", b"{", b'{"learner": {}}'])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """By what is in them, and nothing of them is run."""
    where = tmp_path / "model.cbm"
    where.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.cbm is no model"):
        described_of(where)
