"""`.keras` files: what Keras would import or call to build the model, found without Keras.

Such a file is a zip archive with the layers in `config.json`. Keras' own safe mode stands between
a file and its code too, but it lists what is forbidden and has been bypassed; this table lists
what is allowed, by module and name, and everything else counts as code.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salver.errors import CheckpointError

MAX_CONFIG = 64 << 20

_LIBRARY = (
    r"keras\.(activations|constraints|dtype_policies|initializers|layers|losses|metrics|ops"
    r"|ops\.image|optimizers|optimizers\.schedules|quantizers|random|regularizers)"
)
_CLASS = re.compile(
    rf"({_LIBRARY}\.[A-Z]\w*|keras\.(Sequential|Model|DTypePolicy|FloatDTypePolicy)"
    r"|keras\.src\.models\.functional\.Functional|keras\.src\.ops\.\w+\.[A-Z]\w*)",
    re.ASCII,
)
_FUNCTION = re.compile(
    rf"(builtins|{_LIBRARY})\.(?!(deserialize|get|serialize)$)[a-z]\w*", re.ASCII
)
# Keras' own, and made to run something else: Python, a SavedModel, another framework.
_RUNNING = {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"}
_VALUES = {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"}
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}


def code_in_archive(path: Path, name: str) -> list[str]:
    """Why loading a `.keras` file may run code, one sentence each; none if it does not.

    Args:
        path: Of the file.
        name: What it is called in the sentences.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if archive.getinfo("config.json").file_size > MAX_CONFIG:
                raise ValueError("its config.json is too large")
            config = json.loads(archive.read("config.json"))
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{name} is no readable .keras file: {error}") from error
    if isinstance(config, dict):
        config.pop("compile_config", None)  # for training; it is not read to predict
    found = dict.fromkeys(_reasons(config))
    strange = [m for m in members if m not in _MEMBERS and not m.startswith("assets/")]
    return [
        *(f"{name} {reason}" for reason in found),
        *(f"{name} contains {_shown(member)}, which Keras does not write" for member in strange),
    ]


def _reasons(config: Any) -> Iterator[str]:
    """Looks at every object at any depth, whether or not Keras would get there."""
    rest = [config]
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += reversed(value)
        elif isinstance(value, dict):
            yield from _reason(value)
            rest += reversed(value.values())


def _reason(value: dict[str, Any]) -> Iterator[str]:
    if isinstance(value.get("vocabulary"), str):
        yield f"has a layer that reads the file {_shown(value['vocabulary'])}"
    if "class_name" not in value:
        return
    module, kind = value.get("module"), value["class_name"]
    if not isinstance(kind, str):
        yield f"names the class {_shown(str(kind))}, which is none"
    elif kind in _RUNNING:
        yield f"has a {kind} layer, which runs what the file names"
    elif kind == "__lambda__":
        yield "holds the bytecode of a lambda"
    elif kind == "function":
        name = f"{module}.{value.get('config')}"
        if not _FUNCTION.fullmatch(name):
            yield f"names the function {_shown(name)}, which would be imported and called"
    elif kind not in _VALUES and not _CLASS.fullmatch(f"{module}.{kind}"):
        yield f"names the class {_shown(f'{module}.{kind}')}, which is none of Keras' own"


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 120 else name[:117] + "...")
