"""What a variant was made from beside its checkpoint: source files and libraries.

A graph holds what code did on the day it was made. When that code or a library changes, the model
as it is may answer otherwise, and the graph would not. This module does not know graphs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

LIBRARIES = (
    "torch",
    "transformers",
    "scikit-learn",
    "lightgbm",
    "xgboost",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "skl2onnx",
    "onnxmltools",
)
_INSTALLED = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")})
_OWN = Path(__file__).parents[2]  # Salver itself, whose version counts already


def versions() -> dict[str, str]:
    """Versions of the libraries that models and graphs are made with, if they are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def sources(package: str) -> dict[str, str]:
    """sha256 of the source files of a user's own that this process has imported, by path.

    Args:
        package: Top-level package or module of the model's class, which counts even if it is
            installed; other installed modules count by the version of their library.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        path = Path(file).resolve()
        is_installed = str(path).startswith(_INSTALLED) or path.is_relative_to(_OWN)
        if not path.is_file():  # modules that a library makes up
            continue
        if name.partition(".")[0] == package or not is_installed:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def changed(files: Mapping[str, str], libraries: Mapping[str, str]) -> str:
    """What is no longer as it was, for people; empty if all is.

    Args:
        files: As `sources` gave them.
        libraries: As `versions` gave them.
    """
    for path, digest in files.items():
        try:
            content = Path(path).read_bytes()
        except OSError:
            return f"{path} is gone"
        if hashlib.sha256(content).hexdigest() != digest:
            return f"{path} has changed"
    now = versions()
    for name in sorted({*libraries, *now}):
        if libraries.get(name) != now.get(name):
            before, after = libraries.get(name, "absent"), now.get(name, "absent")
            return f"{name} was {before} and is {after}"
    return ""
