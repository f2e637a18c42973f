"""Adoption: from files that MLflow or a framework has written to a pinned checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from salver.errors import CheckpointError, CodeRefused, UnsafePath
from salver.models.adoption import adopt, name_of
from salver.models.artifacts import LocalArtifacts
from salver.models.cache import CheckpointCache
from salver.models.checkpoint import Checkpoint
from salver.models.description import Description

MLMODEL = """
flavors:
  python_function: {loader_module: mlflow.sklearn}
  sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}
signature:
  inputs: '[{"type": "double", "name": "x"}, {"type": "long", "name": "y", "required": false}]'
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that MLflow has logged, as a pickle that nobody reads here."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "model.pkl").write_bytes(b"never read")
    (folder / "requirements.txt").write_text("scikit-learn")
    example = {"dataframe_split": {"columns": ["x", "y"], "data": [[1.5, 2], [3.5, 4]]}}
    (folder / "serving_input_example.json").write_text(json.dumps(example))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> CheckpointCache:
    return CheckpointCache(tmp_path / "cache")


def adopted(folder: Path, cache: CheckpointCache) -> Checkpoint:
    return adopt(LocalArtifacts(folder), str(folder), cache)


def test_a_model_of_mlflow_becomes_a_checkpoint(model: Path, cache: CheckpointCache) -> None:
    """With its framework, its inputs, its first example, and what it would run."""
    found = adopted(model, cache)
    described = Description.of(found)
    assert cache.path_of(found.digest) == found.path
    assert "sklearn" == described.framework
    assert [("x", True), ("y", False)] == [
        (column.name, column.required) for column in described.signature.columns
    ]
    assert ("model.pkl is a pickle, which can run anything when it is read",) == described.code
    assert [{"input": {"x": 1.5, "y": 2}}] == found.metadata["examples"]
    assert {"MLmodel", "model.pkl"} <= set(found.files)


def test_the_same_files_are_the_same_checkpoint(model: Path, cache: CheckpointCache) -> None:
    """And another byte makes another one."""
    first = adopted(model, cache)
    assert first == adopted(model, cache)
    (model / "model.pkl").write_bytes(b"something else")
    assert first.digest != adopted(model, cache).digest
    assert [] == os.listdir(cache.root / "staging")


class Listing:
    """What a server says there is, which need not be true."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.fetched: list[str] = []

    def sizes(self) -> dict[str, int]:
        return dict.fromkeys(self.names, 1)

    def fetch(self, name: str, destination: Path, size: int) -> None:
        self.fetched.append(name)
        destination.write_text("flavors: {}")


@pytest.mark.parametrize("name", ["../../evil.ubj", "/evil.ubj", "a/../../evil.ubj"])
def test_a_listing_cannot_name_files_elsewhere(
    name: str, cache: CheckpointCache, tmp_path: Path
) -> None:
    """Nothing is written for a name that leads out."""
    listing = Listing(name, "MLmodel")
    with pytest.raises(UnsafePath):
        adopt(listing, "models:/m/1", cache)
    assert name not in listing.fetched
    assert not list(tmp_path.rglob("evil.ubj"))


def test_what_is_no_model_is_not_copied(cache: CheckpointCache) -> None:
    """Its names tell: a folder of gigabytes is refused at once."""
    listing = Listing("notes.txt", "film.mov")
    with pytest.raises(CheckpointError, match=r"no model that Salver knows.*notes.txt"):
        adopt(listing, "models:/m/1", cache)
    assert [] == listing.fetched


def test_a_damaged_copy_is_made_again(model: Path, cache: CheckpointCache) -> None:
    """It is never served as it is."""
    first = adopted(model, cache)
    (first.path / "model.pkl").write_bytes(b"tampered!!")
    again = adopted(model, cache)
    assert first.digest == again.digest
    assert b"never read" == (again.path / "model.pkl").read_bytes()


def test_code_without_a_signature_is_refused(model: Path, cache: CheckpointCache) -> None:
    """Both are said, for only to be loaded would tell the inputs."""
    text = (model / "MLmodel").read_text()
    (model / "MLmodel").write_text(text[: text.index("signature")])
    with pytest.raises(CodeRefused, match=r"model.pkl is a pickle.*--allow-code.*no signature"):
        adopted(model, cache)
    assert [] == os.listdir(cache.root / "staging")


def link(folder: Path, target: Path) -> None:
    (folder / "more").symlink_to(target)


def hard_link(folder: Path, target: Path) -> None:
    (folder / "more").hardlink_to(target)


@pytest.mark.parametrize("make", [link, hard_link])
def test_what_leads_out_of_the_folder_is_refused(
    model: Path, cache: CheckpointCache, tmp_path: Path, make: Any
) -> None:
    """Symbolic and hard links, through which files could be read or changed."""
    (tmp_path / "secret").write_text("secret")
    make(model, tmp_path / "secret")
    with pytest.raises(UnsafePath, match=r"link.*Put a copy"):
        adopted(model, cache)


def test_a_hard_link_within_the_folder_is_none_of_that(model: Path, cache: CheckpointCache) -> None:
    """Both names are copied."""
    (model / "again.pkl").hardlink_to(model / "model.pkl")
    assert "again.pkl" in adopted(model, cache).files


def test_a_path_that_the_model_names_stays_inside(model: Path, cache: CheckpointCache) -> None:
    """Whatever MLmodel says."""
    (model.parent / "x.pkl").write_bytes(b"")
    text = (model / "MLmodel").read_text()
    (model / "MLmodel").write_text(text.replace("model.pkl", "../x.pkl"))
    with pytest.raises(UnsafePath, match=r"leaves the folder"):
        adopted(model, cache)


def test_flavors_that_nobody_knows_are_listed(model: Path, cache: CheckpointCache) -> None:
    """With those that are served."""
    (model / "MLmodel").write_text("flavors: {prophet: {}, h2o: {}}")
    with pytest.raises(CheckpointError, match=r"flavors h2o, prophet; this Salver serves.*sklearn"):
        adopted(model, cache)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("models:/tagger/3", "tagger"),
        ("models:/my-model@champion", "my_model"),
        ("models:/m-0123456789abcdef", "m_0123456789abcdef"),
        ("runs:/abc/model", "model"),
        ("/models/price.v2.onnx", "price"),
        ("/models/3", "model"),
        (f"models:/tagger/3@sha256:{'0' * 64}", "tagger"),
    ],
)
def test_a_deployment_is_named_after_its_source(source: str, name: str) -> None:
    """By what makes an identifier of it."""
    assert name == name_of(source)
