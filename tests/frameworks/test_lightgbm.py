"""LightGBM: what it says itself is what a model by URI answers, online and offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm
import mlflow.lightgbm
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from frameworks.asking import Asker
from frameworks.in_process import answers, described_of
from salver.errors import CheckpointError

RNG = np.random.default_rng(0)
SMALL = {"n_estimators": 5, "min_child_samples": 2, "verbose": -1}
TABLE = pd.DataFrame(
    {
        "age": RNG.normal(50, 9, 90),
        "income": RNG.normal(size=90),
        "city": pd.Categorical(RNG.choice(["Ulm", "Köln", "Graz"], 90)),
    }
)
TABLE.loc[::7, "income"] = np.nan
TABLE.loc[3, "city"] = None
ROWS = json.loads(TABLE.to_json(orient="records"))  # missing values are null
NUMBERS = TABLE[["age", "income"]]
BINARY = np.where(TABLE["age"] + 9 * (TABLE["city"] == "Ulm") > 53, "rich", "poor")
THREE = np.digitize(TABLE["age"], [46, 53])


def test_an_estimator_as_mlflow_logs_it_by_alias(asker: Asker) -> None:
    """Names of classes and categories, from a skops file, and no code is to be allowed."""
    model = lightgbm.LGBMClassifier(**SMALL).fit(TABLE, BINARY)
    mlflow.lightgbm.log_model(
        model, name="model", pip_requirements=[],
        signature=infer_signature(TABLE.assign(city=TABLE["city"].astype(object))),
        registered_model_name="rich",
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("rich", "champion", "1")
    expected = {"prediction": model.predict(TABLE), "probabilities": model.predict_proba(TABLE)}
    asker.agree("models:/rich@champion", ROWS, expected)


def test_a_bare_text_names_its_features_and_categories(asker: Asker, tmp_path: Path) -> None:
    """Three classes without names, missing values, and categories as texts."""
    model = lightgbm.LGBMClassifier(**SMALL).fit(TABLE, THREE)
    where = tmp_path / "booster.txt"
    model.booster_.save_model(where)
    expected = {"prediction": model.predict(TABLE), "probabilities": model.predict_proba(TABLE)}
    asker.agree(str(where), ROWS, expected)


def test_a_booster_that_mlflow_logged(tmp_path: Path) -> None:
    """Numbers of a regressor, stopped early, with columns in another order."""
    data = lightgbm.Dataset(NUMBERS, TABLE["age"] ** 2)
    booster = lightgbm.train(
        {"objective": "quantile", "alpha": 0.7, "verbose": -1, "metric": "l1"},
        data,
        60,
        valid_sets=[lightgbm.Dataset(NUMBERS, RNG.normal(2500, 9, 90), reference=data)],
        callbacks=[lightgbm.early_stopping(2, verbose=False)],
    )
    assert booster.best_iteration < 60
    turned = NUMBERS[["income", "age"]]
    mlflow.lightgbm.save_model(
        booster, tmp_path / "m", pip_requirements=[], signature=infer_signature(turned)
    )
    found = answers(tmp_path / "m", turned)
    np.testing.assert_allclose(found["prediction"], booster.predict(NUMBERS), 1e-12)


@pytest.mark.parametrize("objective", ["binary", "multiclass", "multiclassova"])
def test_objectives_of_classifiers(tmp_path: Path, objective: str) -> None:
    """Those that do not sum to one are no probabilities, and the label is that of the largest."""
    labels = THREE > 1 if objective == "binary" else THREE
    model = lightgbm.LGBMClassifier(objective=objective, **SMALL).fit(NUMBERS, labels)
    model.booster_.save_model(tmp_path / "model.txt")
    found = answers(tmp_path / "model.txt", NUMBERS)
    name = "score" if objective == "multiclassova" else "probabilities"
    np.testing.assert_allclose(found[name], model.predict_proba(NUMBERS), 1e-12)
    if name == "score":
        assert model.predict(NUMBERS).tolist() == found["prediction"]


def test_a_model_trained_on_arrays_takes_lists_of_numbers(tmp_path: Path) -> None:
    """The features have no names then, and the signature has their number."""
    model = lightgbm.LGBMRegressor(**SMALL).fit(NUMBERS.to_numpy(), THREE)
    model.booster_.save_model(tmp_path / "model.txt")
    (column,) = described_of(tmp_path / "model.txt").signature.columns
    assert ("input", "float64", (2,)) == (column.name, column.dtype, column.shape)
    inputs = NUMBERS.fillna(0).to_numpy()
    found = answers(tmp_path / "model.txt", {"input": list(inputs)})
    np.testing.assert_allclose(found["prediction"], model.predict(inputs), 1e-12)


def test_blanks_in_names(tmp_path: Path) -> None:
    """LightGBM writes underlines for them; the signature's names are those that are asked."""
    table = NUMBERS.rename(columns={"age": "age in years"})[["income", "age in years"]]
    model = lightgbm.LGBMRegressor(**SMALL).fit(table, THREE)
    turned = table[["age in years", "income"]]
    mlflow.lightgbm.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(turned)
    )
    found = answers(tmp_path / "m", turned)
    np.testing.assert_allclose(found["prediction"], model.predict(table), 1e-12)


@pytest.mark.parametrize("categories", [[7, 3, 5], [True, False]])
def test_categories_that_are_no_texts(tmp_path: Path, categories: list[Any]) -> None:
    """They are given as what they are."""
    column = pd.Categorical(RNG.choice(categories, 90), categories=categories)
    table = NUMBERS.assign(c=column)
    model = lightgbm.LGBMRegressor(**SMALL).fit(table, column.codes * 2.0)
    model.booster_.save_model(tmp_path / "model.txt")
    found = answers(tmp_path / "model.txt", table)
    np.testing.assert_allclose(found["prediction"], model.predict(table), 1e-12)
    assert len(set(np.round(found["prediction"], 6))) > 1


def test_a_category_that_is_not_known_counts_as_missing(tmp_path: Path) -> None:
    """As it does in LightGBM."""
    model = lightgbm.LGBMRegressor(**SMALL).fit(TABLE, THREE + 3.0 * (TABLE["city"] == "Ulm"))
    model.booster_.save_model(tmp_path / "model.txt")
    given = {"age": [50.0, 50.0], "income": [0.0, 0.0], "city": ["Rome", None]}
    found = answers(tmp_path / "model.txt", given)["prediction"]
    asked = pd.DataFrame(given).assign(city=pd.Categorical(["Rome", None], categories=["Rome"]))
    np.testing.assert_allclose(found, model.predict(asked), 1e-12)


def test_categories_whose_features_cannot_be_told_are_refused(tmp_path: Path) -> None:
    """A category with a single value is of no use to the trees, and leaves no trace in the text."""
    table = TABLE.assign(same=pd.Categorical(["x"] * 90))
    model = lightgbm.LGBMRegressor(**SMALL).fit(table, THREE)
    model.booster_.save_model(tmp_path / "model.txt")
    with pytest.raises(CheckpointError, match="2 lists of categories and 1 features"):
        described_of(tmp_path / "model.txt")


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (NUMBERS, "the model takes 3 features"),
        (TABLE.assign(city="x").rename(columns={"age": "x"}), "was trained on 'age', 'income'"),
        (TABLE.assign(city=1), "knows it as one of 'Graz', 'Köln', 'Ulm'"),
        (TABLE.assign(city="x", age="x"), "the model takes numbers there"),
    ],
)
def test_a_signature_that_is_not_the_models_is_refused(
    tmp_path: Path, example: pd.DataFrame, why: str
) -> None:
    """When the model is loaded, with what it takes."""
    model = lightgbm.LGBMRegressor(**SMALL).fit(TABLE, THREE)
    mlflow.lightgbm.save_model(
        model, tmp_path / "m", pip_requirements=[], signature=infer_signature(example)
    )
    with pytest.raises(CheckpointError, match=why):
        answers(tmp_path / "m", example)


def test_a_pickle_by_the_name_of_a_text_is_refused(tmp_path: Path) -> None:
    """By what is in it, and nothing of it is run."""
    where = tmp_path / "model.txt"
    where.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(CheckpointError):
        described_of(where)
    model = lightgbm.LGBMRegressor(**SMALL).fit(NUMBERS, THREE)
    model.booster_.save_model(where)
    where.write_bytes(where.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"model\.txt is no booster .* or not all of it"):
        described_of(where)
