"""Adapters: one module for each framework, with the same few names in each.

See `salver.models.description.Adapter` for what they are. The table below is the only place that
lists them; the order decides which of several flavours of a model is used.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from salver.errors import CheckpointError, MissingExtra, nearest
from salver.models.description import Adapter, Artifact, Model
from salver.models.signature import Signature

ADAPTERS = (
    "transformers",
    "onnx",
    "sklearn",
    "catboost",
    "xgboost",
    "lightgbm",
    "pytorch",
    "tensorflow",
    "jax",
    "langchain",
    "pyfunc",
)

# Whose `signature_of` reads texts and shapes, and runs nothing even where `load` would.
READ_AS_TEXT = ("pytorch", "transformers")


def adapter_of(framework: str) -> Adapter:
    """The adapter of that name.

    Raises:
        CheckpointError: If this Salver has none.
    """
    if framework not in ADAPTERS:
        raise CheckpointError(
            f"This Salver has no adapter for {framework!r}. {nearest(framework, ADAPTERS)}"
        )
    module: Any = importlib.import_module(f"{__name__}.{framework}")
    adapter: Adapter = module
    return adapter


def by_flavor(flavors: Any) -> str | None:
    """The name of the adapter for a model with these flavours of MLflow; null if there is none."""
    return next((n for n in ADAPTERS if set(adapter_of(n).FLAVORS) & set(flavors)), None)


def chosen_flavor(framework: str, flavors: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What MLflow wrote down for a framework; empty for bare files."""
    of = adapter_of(framework).FLAVORS
    return next((flavors[name] for name in of if name in flavors), {})


def by_names(names: tuple[str, ...]) -> str | None:
    """The name of the adapter that knows bare files of these names; null if none does."""
    return next((n for n in ADAPTERS if adapter_of(n).recognise(names)), None)


def load(framework: str, artifact: Artifact, signature: Signature) -> Model:
    """The model, ready.

    Raises:
        MissingExtra: If the framework is not installed.
    """
    return require_library(framework).load(artifact, signature)


def signature_of(framework: str, artifact: Artifact) -> Signature:
    """What the model itself says of its inputs; raises as `load`."""
    return require_library(framework).signature_of(artifact)


def require_library(framework: str) -> Adapter:
    """The adapter, once it is sure that what it imports is installed.

    Raises:
        MissingExtra: If it is not; names the line that installs it.
    """
    adapter = adapter_of(framework)
    for module in adapter.MODULES:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(adapter.LIBRARY, f"A model of {framework}", adapter.EXTRA)
    return adapter
