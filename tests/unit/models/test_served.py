"""The class that serves models by their URI, and the deployments that are made of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field

from salver import Checkpoint, Threshold, model
from salver.engine.loading import allowed_code, load
from salver.errors import (
    CheckpointError,
    CodeRefused,
    ConfigError,
    MissingExtra,
    ReplicaStartFailed,
)
from salver.models.adoption import described
from salver.models.served import ServedModel, deployment_for


class Flower(BaseModel):
    length: float = Field(alias="petal length")
    width: float = Field(alias="petal width", gt=0)


@pytest.fixture
def flowers(tmp_path: Path) -> Checkpoint:
    """A booster of three classes over two named columns."""
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    inputs = rng.uniform(0, 3, (90, 2))
    data = lightgbm.Dataset(
        inputs, inputs[:, 0].astype(int), feature_name=["petal_length", "petal_width"]
    )
    found = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, data, 5)
    folder = tmp_path / "flowers"
    folder.mkdir()
    found.save_model(folder / "flowers.txt")
    return Checkpoint.create(folder, described(folder, "flowers.txt"))


def resolved(one: Checkpoint) -> dict[str, Any]:
    return {"0": {"path": str(one.path), "digest": one.digest, "source": "models:/flowers/1"}}


def test_it_is_a_plain_class(flowers: Checkpoint) -> None:
    """A dict of columns in, a dict of columns out, and the names of the classes."""
    served = ServedModel(flowers)
    answer = served({"petal_length": np.array([0.1, 2.9]), "petal_width": np.array([1.0, 1.0])})
    assert [0, 1, 2] == served.classes_
    assert [0, 2] == answer["probabilities"].argmax(axis=1).tolist()


def test_a_deployment_is_made_of_its_description(flowers: Checkpoint) -> None:
    """Its name, its input model, and the reference with the digest."""
    made = deployment_for(flowers, f"models:/flowers/1@sha256:{flowers.digest}")
    assert "flowers" == made.name
    assert ("petal_length", "petal_width") == made.schema.names
    assert flowers.digest == made.args[0].digest


def test_it_answers_an_example_before_it_is_ready(flowers: Checkpoint) -> None:
    """One that is made up, where none was logged."""
    made = deployment_for(flowers, f"models:/flowers/1@sha256:{flowers.digest}")
    (example,) = load(made, resolved(flowers), lambda _text: None).examples
    assert {"petal_length", "petal_width"} == set(example["input"])
    assert {"0", "1", "2"} == set(example["output"]["probabilities"])


def test_a_model_of_ones_own_rows_needs_the_names_of_the_inputs(flowers: Checkpoint) -> None:
    """What is missing is named at start."""
    made = model("models:/flowers/1", input=Flower)
    with pytest.raises(CheckpointError, match=r"no 'petal_length', 'petal_width' \(it has 'petal "):
        load(made, resolved(flowers), lambda _text: None)


def test_rows_may_have_other_attributes_and_fields(flowers: Checkpoint) -> None:
    """Inputs are found by what they are called in a row."""

    class Own(BaseModel):
        note: str = ""
        w: float = Field(alias="petal_width")
        l: float = Field(alias="petal_length")  # noqa: E741

    made = model("models:/flowers/1", input=Own, policy=Threshold(0.0), name="own")
    pipeline = load(made, resolved(flowers), lambda _text: None).pipeline
    checked = made.schema.check_rows([{"note": "a", "petal_width": 1.0, "petal_length": 2.9}])
    assert 2 == pipeline.run(checked.batch)[0]["prediction"]
    assert "own" == made.name


def test_code_is_refused_until_it_is_allowed(tmp_path: Path) -> None:
    """By the options of the deployment; then it runs, and here it is no pickle at all."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"no pickle")
    (folder / "MLmodel").write_text(
        "flavors: {sklearn: {pickled_model: model.pkl}}\n"
        """signature: {inputs: '[{"type": "double", "name": "x"}]'}"""
    )
    found = Checkpoint.create(folder, described(folder, "models:/m/1"))

    class X(BaseModel):
        x: float

    made = model("models:/m/1", input=X)
    with pytest.raises(CodeRefused, match=r"models:/flowers/1 would run code.*--allow-code"):
        load(made, resolved(found), lambda _text: None)
    allowed = model("models:/m/1", input=X, allow_code=True)
    with pytest.raises(KeyError):  # of the unpickler
        load(allowed, resolved(found), lambda _text: None)


def test_a_framework_that_is_not_installed_is_named(
    flowers: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line that installs it, before any replica is started."""
    is_there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lightgbm" else is_there(name)
    )
    made = deployment_for(flowers, f"models:/flowers/1@sha256:{flowers.digest}")
    with pytest.raises(MissingExtra, match=r"lightgbm.*pip install 'salver\[lightgbm\]'"):
        allowed_code(made, resolved(flowers))


def test_options_are_checked_at_once() -> None:
    """Not when the service starts."""
    with pytest.raises(ConfigError, match="allow_cod"):
        model("models:/m/1", input=Flower, allow_cod=True)
    with pytest.raises(ConfigError, match="scheme"):
        model("model:/m/1", input=Flower)


def test_a_model_that_takes_single_rows_only_is_refused(
    flowers: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked row by row it would be slow, and may mean something else by a row."""

    def one_only(_self: ServedModel, batch: dict[str, Any]) -> Any:
        if len(batch["petal_length"]) > 1:
            raise ValueError("one at a time")
        return {"prediction": [1]}

    monkeypatch.setattr(ServedModel, "__call__", one_only)
    made = deployment_for(flowers, f"models:/flowers/1@sha256:{flowers.digest}")
    with pytest.raises(ReplicaStartFailed, match="one row, and fails on three"):
        load(made, resolved(flowers), lambda _text: None)
