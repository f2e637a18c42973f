from __future__ import annotations

import os
from pathlib import Path

import pytest

from salver.errors import CheckpointError, UnsafePath
from salver.models.artifacts import LocalArtifacts, local_path


def test_a_file_is_copied_by_name(tmp_path: Path) -> None:
    """A listed file arrives, byte for byte, as a file of its own."""
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "deep" / "x").write_bytes(b"\0\1")
    os.link(tmp_path / "from" / "deep" / "x", tmp_path / "second-name")

    LocalArtifacts(tmp_path / "from").fetch("deep/x", tmp_path / "to", 2)

    assert (tmp_path / "to").read_bytes() == b"\0\1"
    assert (tmp_path / "to").stat().st_nlink == 1


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "link", "up/secret", "pipe"])
@pytest.mark.timeout(10)
def test_nothing_outside_is_copied(tmp_path: Path, name: str) -> None:
    """An artefact store cannot make Salver read other files of its machine."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "from"
    folder.mkdir()
    (folder / "link").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")

    with pytest.raises(UnsafePath):
        LocalArtifacts(folder).fetch(name, tmp_path / "to", 6)
    assert not (tmp_path / "to").exists()


def test_a_missing_file_says_what_is_there(tmp_path: Path) -> None:
    """A folder that was logged without a manifest says how to log one with."""
    for name in ("model.pt", "args.json"):
        (tmp_path / name).touch()

    with pytest.raises(CheckpointError, match=r"no manifest.json \(there: args.json, model.pt\)"):
        LocalArtifacts(tmp_path).fetch("manifest.json", tmp_path / "to", 0)


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """Artefacts on another machine are the usual reason for a folder that is not there."""
    with pytest.raises(CheckpointError, match=r"no folder .*/nowhere on this machine"):
        LocalArtifacts(tmp_path / "nowhere").fetch("manifest.json", tmp_path / "to", 0)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/srv/mlruns/1", Path("/srv/mlruns/1")),
        ("file:///srv/ml%20runs", Path("/srv/ml runs")),
        ("./mlruns", Path.cwd() / "mlruns"),
        ("mlflow-artifacts:/1/x", None),
        ("s3://bucket/x", None),
        ("runs:/abc/x", None),
    ],
)
def test_a_local_uri_is_told_from_a_remote_one(uri: str, path: Path | None) -> None:
    """Only paths and file URIs are read from the disk."""
    assert path == local_path(uri)
