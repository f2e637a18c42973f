"""scikit-learn: what it says itself is what a model by URI answers, online and offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC

from frameworks.asking import Asker

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "age (years)": RNG.integers(18, 90, 60),
        "income": RNG.normal(3e4, 1e4, 60),
        "city": RNG.choice(["Ulm", "Köln", "Graz"], 60),
    }
)
LABELS = np.where(TABLE["income"] + 500 * (TABLE["city"] == "Ulm") > 3e4, "rich", "poor")
ROWS = TABLE.to_dict("records")


def classifier() -> Any:
    by_column = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough"
    )
    return make_pipeline(by_column, LogisticRegression(max_iter=200)).fit(TABLE, LABELS)


def test_a_pipeline_over_named_columns_by_alias(asker: Asker) -> None:
    """Class names and probabilities, with integers, texts and a name that is no identifier."""
    model = classifier()
    mlflow.sklearn.log_model(
        model, name="model", pip_requirements=[], signature=infer_signature(TABLE, LABELS),
        registered_model_name="rich",
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("rich", "champion", "1")
    asker.agree(
        "models:/rich@champion",
        ROWS,
        {"prediction": model.predict(TABLE), "probabilities": model.predict_proba(TABLE)},
    )


def test_a_regressor_of_a_run_trained_on_arrays(asker: Asker) -> None:
    """A row is then a list of numbers."""
    inputs = TABLE[["age (years)", "income"]].to_numpy(float)
    model = LinearRegression().fit(inputs, inputs @ [2.0, 0.5])
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(model, name="model", pip_requirements=[], input_example=inputs[:2])
    asker.agree(
        f"runs:/{run.info.run_id}/model",
        [{"input": row} for row in inputs.tolist()],
        {"prediction": model.predict(inputs)},
    )


def test_labels_are_those_of_predict_where_they_are_not_the_most_probable(
    asker: Asker, tmp_path: Path
) -> None:
    """A support vector machine decides by its margin, whatever its probabilities say."""
    inputs = TABLE[["age (years)"]]
    model = SVC(probability=True, random_state=0).fit(inputs, RNG.integers(0, 2, 60))
    where = tmp_path / "model"
    mlflow.sklearn.save_model(model, where, pip_requirements=[], signature=infer_signature(inputs))
    assert (model.predict(inputs) != model.predict_proba(inputs).argmax(1)).any()
    asker.agree(
        str(where),
        inputs.to_dict("records"),
        {"prediction": model.predict(inputs), "probabilities": model.predict_proba(inputs)},
    )


def test_several_numbers_per_row(asker: Asker, tmp_path: Path) -> None:
    """A regressor of two outputs gives a list."""
    inputs = TABLE[["age (years)", "income"]]
    model = MultiOutputRegressor(LinearRegression()).fit(inputs, inputs.to_numpy() * [2, 3])
    where = tmp_path / "model"
    mlflow.sklearn.save_model(model, where, pip_requirements=[], signature=infer_signature(inputs))
    asker.agree(str(where), inputs.to_dict("records"), {"prediction": model.predict(inputs)})


def test_a_pickle_is_served_where_code_is_allowed(asker: Asker, tmp_path: Path) -> None:
    """And refused where not, with the file and the option that allows it."""
    model = classifier()
    where = tmp_path / "model"
    mlflow.sklearn.save_model(
        model,
        where,
        pip_requirements=[],
        signature=infer_signature(TABLE),
        serialization_format="cloudpickle",
    )
    refused = asker.run("serve", str(where), "--port", "0")
    assert 1 == refused.returncode
    assert "model.pkl is a pickle" in refused.stderr
    assert "--allow-code" in refused.stderr
    asker.agree(str(where), ROWS[:5], {"prediction": model.predict(TABLE[:5])}, "--allow-code")


def test_a_signature_that_is_not_the_models_fails_at_start(asker: Asker, tmp_path: Path) -> None:
    """Not at the first request."""
    inputs = TABLE[["age (years)", "income"]]
    model = LinearRegression().fit(inputs, inputs["income"])
    where = tmp_path / "model"
    mlflow.sklearn.save_model(
        model, where, pip_requirements=[], signature=infer_signature(inputs[["income"]])
    )
    refused = asker.run("serve", str(where), "--port", "0")
    assert 1 == refused.returncode
    assert "signature" in refused.stderr
    assert "age (years)" in refused.stderr


@pytest.mark.parametrize("rows", [1, 33])
def test_texts(asker: Asker, tmp_path: Path, rows: int) -> None:
    """A pipeline over one column of texts, which has no name."""
    texts = np.array([f"{a} and {b}" for a in "abcdefgh" for b in "ijklmnop"], dtype=object)
    model = make_pipeline(TfidfVectorizer(analyzer="char"), LogisticRegression())
    model.fit(texts, [text[0] in "abc" for text in texts])
    where = tmp_path / "model"
    mlflow.sklearn.save_model(model, where, pip_requirements=[], signature=infer_signature(texts))
    asker.agree(
        str(where),
        [{"input": text} for text in texts[:rows]],
        {"prediction": model.predict(texts[:rows])},
    )
