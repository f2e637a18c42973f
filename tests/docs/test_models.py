"""What docs/models.md shows is executed, with its own words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ROOMS = pd.DataFrame({"rooms": np.arange(1.0, 21.0)})


class Price(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return model_input["rooms"] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """Where `price` is registered: a pickle as its first version, the champion is its third."""
    root = tmp_path_factory.mktemp("docs")
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    mlflow.create_experiment("prices", artifact_location=str(root / "artifacts"))
    mlflow.set_experiment("prices")
    signature = infer_signature(ROOMS, ROOMS["rooms"])
    kept = {"signature": signature, "pip_requirements": [], "registered_model_name": "price"}
    data = lightgbm.Dataset(ROOMS.to_numpy(), ROOMS["rooms"] * 10, feature_name=["rooms"])
    booster = lightgbm.train({"verbose": -1, "min_data_in_leaf": 1}, data, 20)
    mlflow.pyfunc.log_model(name="model", python_model=Price(), **kept)
    for _ in range(2):
        mlflow.lightgbm.log_model(booster, name="model", **kept)
    mlflow.MlflowClient().set_registered_model_alias("price", "champion", "3")
    ROOMS.to_parquet(root / "in.parquet")
    yield root
    mlflow.clear_active_model()  # which it remembers for its process, as the store
    mlflow.set_tracking_uri(None)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "SALVER_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def block(holds: str) -> str:
    (found,) = (body for _, body in BLOCKS if holds in body)
    return found


def test_the_command_predicts_a_file(folder):
    """By alias, into a folder."""
    (line,) = re.findall(r"^salver (predict \S+ \S+ \S+)", block("salver predict"), re.MULTILINE)
    ended = run(folder, "-m", "salver.cli", *line.split(), "--format", "jsonl")
    assert 0 == ended.returncode, ended.stderr
    (part,) = (folder / "out").glob("*.jsonl")
    assert len(ROOMS) == len(part.read_text().splitlines())


def test_the_refusal_is_the_one_that_is_shown(folder):
    """Word by word."""
    command, said = block("$ salver").split("\n", 1)
    ended = run(folder, "-m", "salver.cli", *command.split()[2:])
    assert 1 == ended.returncode
    assert " ".join(said.split()) in " ".join(ended.stderr.split())


def test_another_digest_does_not_start(folder):
    """The registry holds other bytes than those that the document shows."""
    (target,) = re.findall(r"models:/price/3@sha256:\S+", TEXT)
    ended = run(folder, "-m", "salver.cli", "serve", target, "--port", "0")
    assert 1 == ended.returncode
    assert "is asked for" in ended.stderr


def test_a_service_around_it_answers(folder):
    """With an input model of one's own."""
    code = (
        "import json\nimport salver\nfrom typing import Annotated\n"
        "from pydantic import BaseModel, Field\nfrom salver import Service\n"
        + block("class House")
        + "print(json.dumps(service.predict([{'rooms': 5.0}, {'rooms': -1.0}])))\n"
        + "service.shutdown()\n"
    )
    ended = run(folder, "-c", code)
    assert 0 == ended.returncode, ended.stderr
    good, bad = json.loads(ended.stdout)
    assert 10 < good["prediction"] < 90
    assert "error" in bad
