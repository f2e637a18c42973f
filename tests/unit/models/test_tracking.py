from __future__ import annotations

from pathlib import Path

import pytest

from salver import Checkpoint, best_checkpoint, checkpoint
from salver.errors import CheckpointError, TrackingUnavailable
from salver.models.cache import CheckpointCache
from salver.models.tracking import best_run, open_store, resolve


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_local_folder_is_opened_in_place(tmp_path: Path, form: str) -> None:
    """A folder needs no tracking server and no cache; it is verified all the same."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"weights")
    made = Checkpoint.create(folder)
    reference = checkpoint(form.format(folder))
    cache = CheckpointCache(tmp_path / "cache")

    found = resolve(reference, cache)

    assert made == found.checkpoint
    assert not found.stale
    assert not cache.root.exists()
    (folder / "model.pt").write_bytes(b"wEights")
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        resolve(reference, cache)


def test_a_local_folder_counts_from_where_the_service_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is made absolute when it is resolved, not when it is written."""
    reference = checkpoint("models/tagger")
    folder = tmp_path / "models" / "tagger"
    folder.mkdir(parents=True)
    Checkpoint.create(folder)
    monkeypatch.chdir(tmp_path)

    assert folder == resolve(reference).checkpoint.path


def test_no_store_and_no_copy_is_unavailable(tmp_path: Path) -> None:
    """Without a store and without an earlier copy there is nothing to serve, and it says both."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    with pytest.raises(TrackingUnavailable) as caught:
        resolve(best_checkpoint("exp", metric="m", tracking_uri=uri), CheckpointCache(tmp_path))
    assert "no MLflow database" in caught.value.message
    assert "no earlier copy of best_checkpoint('exp'" in caught.value.message


def test_the_default_store_comes_from_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SALVER_TRACKING_URI is read when a question is asked."""
    monkeypatch.setenv("SALVER_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")

    with pytest.raises(TrackingUnavailable, match=r"elsewhere\.db"):
        best_run("exp", "m")


def test_sqlite_is_read_without_mlflow(tmp_path: Path) -> None:
    """The default store costs no import of MLflow."""
    (tmp_path / "mlflow.db").touch()

    assert type(open_store(f"sqlite:///{tmp_path}/mlflow.db")).__name__ == "SqliteStore"
