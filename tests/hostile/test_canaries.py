"""No artefact runs code before somebody allows it: each of these would leave a file behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from artefacts import ARTEFACTS

from salver.engine.loading import load
from salver.errors import CodeRefused, SalverError
from salver.models.cache import CheckpointCache
from salver.models.reference import checkpoint
from salver.models.served import deployment_for
from salver.models.tracking import resolve

# What is refused for being damaged, no model, or on its way out of its folder; nobody could allow
# that. The rest is refused for its code, and with the option that allows it.
NO_MODELS = {
    "mlmodel_yaml_tag",
    "pickle_as_ubj", "pickle_as_json", "pickle_as_onnx", "pickle_as_cbm", "pickle_as_safetensors",
    "pickle_as_msgpack", "pickle_as_keras", "torch_zip_as_onnx", "npy_objects", "npz_objects",
    "mlflow_sklearn_outside", "mlflow_sklearn_symlink", "safetensors_symlink", "folder_symlink",
    "mlflow_pyfunc_shadow", "mlflow_xgboost_model_class",
    "mlflow_langchain_from_code",
    "mlflow_keras_custom_objects", "mlflow_keras_module",
    "onnx_outside", "onnx_absolute", "onnx_symlink", "onnx_hard_link", "onnx_custom_op",
    "sentence_transformers_module",
}  # fmt: skip
# What is served as it is, for the part that would run is not read.
HARMLESS = {"pt2_guards"}


def ask(target: Path, cache: CheckpointCache) -> list[dict[str, Any]]:
    """Loads a model as a replica does, and asks it an example."""
    found = resolve(checkpoint(str(target)), cache).checkpoint
    deployment = deployment_for(found, f"{target}@sha256:{found.digest}")
    place = {"path": str(found.path), "digest": found.digest, "source": found.source}
    return load(deployment, {"0": place}, lambda _text: None).examples


@pytest.mark.parametrize("name", ARTEFACTS)
def test_no_code_runs_unless_it_is_allowed(name: str, tmp_path: Path) -> None:
    """Neither when it is looked at, nor when it is loaded, nor when it is asked."""
    folder, canary = tmp_path / "artefact", tmp_path / "canary"
    folder.mkdir()
    target = ARTEFACTS[name](folder, canary)
    if name in HARMLESS:
        assert ask(target, CheckpointCache(tmp_path / "cache"))
    else:
        with pytest.raises(SalverError) as refused:
            ask(target, CheckpointCache(tmp_path / "cache"))
        if name not in NO_MODELS:
            assert isinstance(refused.value, CodeRefused), refused.value
            assert "--allow-code" in str(refused.value)
    assert not canary.exists()


def test_the_lists_name_artefacts() -> None:
    """An artefact that is gone is taken off its list."""
    assert set(ARTEFACTS) >= NO_MODELS | HARMLESS
