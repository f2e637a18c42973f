"""An MLflow store and a cache for the models of one module of tests."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from frameworks.asking import Asker


@pytest.fixture
def asker(tmp_path: Path) -> Asker:
    found = Asker(tmp_path)
    mlflow.set_tracking_uri(found.tracking_uri)
    mlflow.create_experiment("models", artifact_location=f"{tmp_path}/artifacts")
    mlflow.set_experiment("models")
    return found
