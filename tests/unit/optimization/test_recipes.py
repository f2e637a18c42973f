"""The table of candidates."""

from __future__ import annotations

import importlib.util

import pytest

from salver.optimization import recipes
from salver.optimization.recipes import RECIPES, recipes_for


def test_names_are_unique() -> None:
    """They are what `--only` takes."""
    assert len(RECIPES) == len({recipe.name for recipe in RECIPES})


def test_a_session_of_onnx_runtime_is_not_its_own_candidate() -> None:
    """It would be compared with itself."""
    assert "onnxruntime-fp32" not in {recipe.name for recipe in recipes_for("onnx")}
    assert "onnxruntime-fp32" in {recipe.name for recipe in recipes_for("torch")}


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    is_there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "nncf" else is_there(name)
    )
    (recipe,) = [one for one in RECIPES if one.name == "openvino-int8"]
    assert "nncf not installed: pip install 'salver[optimize]'" == recipe.missing()


def test_what_the_processor_cannot_do_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that bf16 is not promised where it would be fp32."""
    (recipe,) = [one for one in RECIPES if one.name == "openvino-bf16"]
    monkeypatch.setattr(recipes, "instructions", lambda: ("avx2",))
    assert "avx512_bf16" in recipe.missing()
    monkeypatch.setattr(recipes, "instructions", lambda: ("avx512_bf16",))
    assert "" == recipe.missing()
