"""An MLflow store and a cache for the models of one module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from frameworks.asking import Asker


@pytest.fixture(autouse=True)
def forgetful_mlflow() -> Iterator[None]:
    """MLflow remembers for its process which model was logged or loaded last, and in which store."""
    yield
    mlflow.clear_active_model()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def asker(tmp_path: Path) -> Asker:
    found = Asker(tmp_path)
    mlflow.set_tracking_uri(found.tracking_uri)
    mlflow.create_experiment("models", artifact_location=f"{tmp_path}/artifacts")
    mlflow.set_experiment("models")
    return found
