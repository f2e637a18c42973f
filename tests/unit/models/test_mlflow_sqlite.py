from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from salver.errors import TrackingError, TrackingUnavailable
from salver.models.mlflow_sqlite import SqliteStore, database_path


def test_a_missing_database_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is wrong by one folder says where it was looked for, and leaves no file there."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(TrackingUnavailable) as caught:
        SqliteStore("sqlite:///runs/mlflow.db")
    assert f"no MLflow database at {tmp_path}/runs/mlflow.db" in caught.value.message
    assert f"counted from {tmp_path}" in caught.value.message
    assert os.listdir(tmp_path) == []


def test_a_database_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    """A file that is removed between two questions is unavailable, and stays removed."""
    path = tmp_path / "mlflow.db"
    path.touch()
    store = SqliteStore(f"sqlite:///{path}")
    path.unlink()

    with pytest.raises(TrackingUnavailable, match="cannot be read now"):
        store.artifact_uri("abc")
    assert not path.exists()


def test_a_folder_or_a_fifo_is_no_database(tmp_path: Path) -> None:
    """Only a regular file is opened."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe"):
        with pytest.raises(TrackingUnavailable, match="no MLflow database"):
            SqliteStore(f"sqlite:///{tmp_path}/{name}")


def test_an_empty_database_stays_empty(tmp_path: Path) -> None:
    """An empty file is no MLflow database, and is not made one by looking."""
    path = tmp_path / "mlflow.db"
    path.touch()

    with pytest.raises(TrackingError, match="no MLflow database that Salver can read"):
        SqliteStore(f"sqlite:///{path}").best_run("exp", "val_loss", "min")
    assert path.stat().st_size == 0


def test_a_stranger_is_no_database(tmp_path: Path) -> None:
    """Another kind of file is named as such."""
    path = tmp_path / "mlflow.db"
    path.write_text("name,value\n" * 100)

    with pytest.raises(TrackingError, match="is no MLflow database"):
        SqliteStore(f"sqlite:///{path}").artifact_uri("abc")


def test_another_schema_is_named(tmp_path: Path) -> None:
    """A database without the columns that are read says which is missing."""
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection.close()

    with pytest.raises(TrackingError, match="no such column: artifact_uri"):
        SqliteStore(f"sqlite:///{path}").artifact_uri("abc")


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:x.db"])
def test_a_uri_without_a_file_is_refused(uri: str) -> None:
    """A database in memory holds nothing that anyone trained."""
    with pytest.raises(TrackingError, match="names no file"):
        SqliteStore(uri)


def test_a_uri_names_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative, four absolute; options of the driver are not part of the path."""
    monkeypatch.chdir(tmp_path)

    assert tmp_path / "a" / "b.db" == database_path("sqlite:///a/b.db")
    assert Path("/srv/b.db") == database_path("sqlite:////srv/b.db?timeout=5")
