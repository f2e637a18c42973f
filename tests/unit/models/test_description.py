"""Descriptions and artefacts: what every process reads of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from salver.errors import CheckpointError, UnsafePath
from salver.models.checkpoint import Checkpoint
from salver.models.description import METADATA, Artifact, Description, refusal
from salver.models.signature import Column, Signature, scalar, tensor

FOUND = Description(
    "onnx",
    {"data": "model.onnx"},
    Signature((Column("a b", scalar("str"), required=False), Column("c", tensor("int8", [-1, 3])))),
    ("x is a pickle",),
    "tagger",
)


def test_a_description_survives_as_metadata(tmp_path: Path) -> None:
    """Of a checkpoint that was written and opened again."""
    Checkpoint.create(tmp_path, {METADATA: FOUND.dump()})
    assert Description.of(Checkpoint.open(tmp_path)) == FOUND


@pytest.mark.parametrize("metadata", [{}, {METADATA: 3}, {METADATA: {"framework": "onnx"}}])
def test_a_checkpoint_of_a_class_has_none(tmp_path: Path, metadata: dict[str, object]) -> None:
    """Which is said with what to do."""
    with pytest.raises(CheckpointError, match=r"which framework.*salver serve MODULE:NAME"):
        Description.of(Checkpoint.create(tmp_path, metadata))


def test_an_artifact_gives_the_paths_of_its_own_files(tmp_path: Path) -> None:
    """And of folders that hold some."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model.onnx").touch()
    artifact = Artifact(tmp_path, ("data/model.onnx",), {})
    assert tmp_path / "data/model.onnx" == artifact.path("data/model.onnx")
    assert tmp_path / "data" == artifact.path("data")
    assert ["data/model.onnx"] == artifact.with_suffix(".onnx", ".pb")


def test_the_file_of_a_model_is_what_mlflow_says(tmp_path: Path) -> None:
    """Or the only one there is."""
    names = ("MLmodel", "model.ubj")
    assert "model.ubj" == Artifact(tmp_path, names, {"data": "model.ubj"}).file("data")
    assert "x.ubj" == Artifact(tmp_path, ("x.ubj",), {}).file("data")
    with pytest.raises(UnsafePath):
        Artifact(tmp_path, names, {"data": "../x"}).file("data")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../x", UnsafePath),
        ("/etc/passwd", UnsafePath),
        ("none", CheckpointError),
        (3, CheckpointError),
    ],
)
def test_other_paths_are_refused(tmp_path: Path, name: object, error: type[Exception]) -> None:
    """Those that lead out, and those of no file."""
    with pytest.raises(error):
        Artifact(tmp_path, ("model.onnx",), {}).path(name)


def test_a_refusal_names_the_reason_and_the_option() -> None:
    """On the command line and in Python."""
    said = refusal("models:/a/1", FOUND.code)
    for part in ("models:/a/1", "x is a pickle", "--allow-code", "allow_code=True"):
        assert part in said
