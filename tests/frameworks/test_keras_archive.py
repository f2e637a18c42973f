"""`.keras` files: whatever is not known to be a harmless layer is refused, and never run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest

from frameworks.in_process import described_of
from frameworks.tensorflow_models import classifier, sequential
from salver.errors import CheckpointError, SalverError


def with_config(tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """A harmless `.keras` file but for what `change` does to its second layer."""
    classifier().save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config["config"]["layers"][1])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return tmp_path / "model.keras"


FUNCTION = {"class_name": "function", "module": "os", "config": "system", "registered_name": "s"}
CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "function": (lambda one: one["config"].update(activation=FUNCTION), "'os.system'"),
    "built in": (
        lambda one: one["config"].update(activation={**FUNCTION, "module": "keras.utils"}),
        "'keras.utils.system'",
    ),
    "deserialize": (
        lambda one: one["config"].update(
            activation={**FUNCTION, "module": "keras.layers", "config": "deserialize"}
        ),
        "'keras.layers.deserialize'",
    ),
    "unsafe": (
        lambda one: one.update(module="keras.config", class_name="enable_unsafe_deserialization"),
        "'keras.config.enable_unsafe_deserialization'",
    ),
    "module": (lambda one: one.update(module="evil.layers"), "'evil.layers.Dense'"),
    "inner": (lambda one: one.update(module="keras.src.utils.jax_layer"), "jax_layer"),
    "no module": (lambda one: one.pop("module"), "'None.Dense'"),
    "class": (lambda one: one.update(class_name={"a": 1}), "which is none"),
    "torch": (lambda one: one.update(class_name="TorchModuleWrapper"), "TorchModuleWrapper"),
    "saved model": (lambda one: one.update(class_name="TFSMLayer"), "TFSMLayer"),
    "lambda": (
        lambda one: one["config"].update(
            kernel_initializer={"class_name": "__lambda__", "config": {"value": {}}}
        ),
        "bytecode",
    ),
    "type": (
        lambda one: one["config"].update(dtype={"class_name": "__typespec__", "module": "os"}),
        "'os.__typespec__'",
    ),
    "file": (lambda one: one["config"].update(vocabulary="/etc/passwd"), "'/etc/passwd'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_configuration_that_names_what_is_not_a_layer(tmp_path: Path, name: str) -> None:
    """The name is in the reason, at any depth."""
    change, said = CHANGES[name]
    path = with_config(tmp_path, change)
    with pytest.raises(SalverError, match="--allow-code") as refused:
        described_of(path)
    assert said in str(refused.value)


def test_what_was_for_training_is_not_read(tmp_path: Path) -> None:
    """A loss of one's own is no reason: the model is loaded without it."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", lambda true, found: keras.ops.mean(true - found))
    model.save(tmp_path / "model.keras")
    assert () == described_of(tmp_path / "model.keras").code


def test_files_that_keras_does_not_write(tmp_path: Path) -> None:
    """Such as weights in numpy's format, which can hold pickles."""
    path = with_config(tmp_path, lambda one: None)
    assert () == described_of(path).code
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.weights.npz", b"")
    with pytest.raises(SalverError, match=r"model\.weights\.npz"):
        described_of(path)


def test_weights_in_a_file_of_somebody_else(tmp_path: Path) -> None:
    """HDF5 can point out of the archive; Keras does not follow."""
    (tmp_path / "secret").write_bytes(bytes(4 * 32))
    path = with_config(tmp_path, lambda one: None)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "weights.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "weights.h5", "a") as file:
        kernel = file["layers/dense/vars/0"]
        group, shape = kernel.parent, kernel.shape
        del group["0"]
        group.create_dataset("0", shape, "f4", external=[(str(tmp_path / "secret"), 0, 128)])
    members["model.weights.h5"] = (tmp_path / "weights.h5").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="external"):
        described_of(path)


def test_a_lambda_creates_no_canary(tmp_path: Path) -> None:
    """Though it would, in Keras with safe_mode=False."""
    canary = tmp_path / "canary"
    path = str(canary)
    spy = keras.layers.Lambda(lambda x: (open(path, "w").close(), x)[1])
    sequential(spy).save(tmp_path / "model.keras")
    canary.unlink()  # it was run to build the model
    with pytest.raises(SalverError, match="Lambda layer"):
        described_of(tmp_path / "model.keras")
    assert not canary.exists()
    keras.saving.load_model(tmp_path / "model.keras", safe_mode=False)
    assert canary.exists()
