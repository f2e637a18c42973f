"""Reads the `MLmodel` file that MLflow writes beside a model, and imports nothing that it names.

MLflow's own `load_model` imports the module and unpickles the file that this text names. Here it
is text: which flavour, which signature, which example. What may be loaded is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from salver.errors import CheckpointError
from salver.models.runs import MLMODEL
from salver.models.signature import Signature
from salver.paths import open_regular, safe_join

MAX_BYTES = 16 << 20
EXAMPLE = "serving_input_example.json"


@dataclass(frozen=True, slots=True)
class Logged:
    """What an `MLmodel` file says.

    Attributes:
        flavors: Settings by flavour.
        inputs: The signature's inputs; null without one.
    """

    flavors: Mapping[str, Mapping[str, Any]]
    inputs: Signature | None


def read_mlmodel(folder: Path, where: str) -> Logged:
    """Reads `folder/MLmodel`.

    Raises:
        CheckpointError: If it is not what MLflow writes.
    """
    try:
        content = yaml.safe_load(_read(folder, MLMODEL))
    except (yaml.YAMLError, RecursionError) as error:
        raise CheckpointError(f"{where}/{MLMODEL} is not valid YAML: {error}") from error
    flavors = content.get("flavors") if isinstance(content, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(f, dict) for f in flavors.values()):
        raise CheckpointError(f"{where}/{MLMODEL} lists no flavors. Log the model again.")
    return Logged({str(k): v for k, v in flavors.items()}, _inputs(content.get("signature"), where))


def _inputs(signature: Any, where: str) -> Signature | None:
    given = signature.get("inputs") if isinstance(signature, dict) else None
    if given is None:
        return None
    try:
        return Signature.load(json.loads(given), f"The signature of {where}")
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"The signature of {where} is not valid JSON: {error}") from error


def example_rows(folder: Path, names: tuple[str, ...], signature: Signature) -> list[Any]:
    """The first row of the input example that was logged, if any.

    It is given as it stands there; whether it fits the signature is seen when it is asked.
    """
    if EXAMPLE not in names:
        return []
    try:
        content = json.loads(_read(folder, EXAMPLE))
    except (ValueError, RecursionError):
        return []
    columns = [column.name for column in signature.columns]
    split = content.get("dataframe_split") if isinstance(content, dict) else None
    if isinstance(split, dict) and split.get("data"):
        names_there = split.get("columns") or columns
        return [dict(zip(map(str, names_there), split["data"][0], strict=False))]
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if isinstance(inputs, dict) and all(isinstance(v, list) and v for v in inputs.values()):
        return [{str(name): values[0] for name, values in inputs.items()}]
    if isinstance(inputs, list) and inputs:
        first = inputs[0]
        return [first if isinstance(first, dict) else {columns[0]: first}]
    return []


def _read(folder: Path, name: str) -> bytes:
    with open_regular(safe_join(folder, name)) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"{folder / name} is larger than {MAX_BYTES >> 20} MiB.")
    return data
