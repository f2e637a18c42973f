"""A model as `salver serve` loads it, without processes: described, pinned, loaded and asked."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from salver.models.adoption import described
from salver.models.checkpoint import Checkpoint
from salver.models.description import METADATA, Description
from salver.models.served import ServedModel
from salver.models.signature import Signature


def described_of(source: Path) -> Description:
    """What is found out of a file or folder before it is loaded."""
    found = described(_folder(source), str(source))[METADATA]
    signature = Signature.load(found["signature"], str(source))
    return Description(**{**found, "signature": signature, "code": tuple(found["code"])})


def loaded(source: Path) -> ServedModel:
    """The model, ready."""
    folder = _folder(source)
    metadata = described(folder, str(source))
    return ServedModel(Checkpoint.create(folder, metadata))


def answers(source: Path, table: Any) -> dict[str, Any]:
    """What the model says to the rows of a DataFrame or of columns; labels from `classes_`."""
    return asked(loaded(source), table)


def asked(model: ServedModel, table: Any) -> dict[str, Any]:
    """What a model that is loaded says."""
    columns = {str(name): _column(table[name]) for name in table}
    model.read_from({name: name for name in columns})
    return dict(model(columns))


def _column(values: Any) -> np.ndarray[Any, Any]:
    """As rows come from JSON: missing values are None, lists are lists."""
    given = [v.tolist() if isinstance(v, np.ndarray | np.generic) else v for v in values]
    if all(type(v) in (int, bool) or (type(v) is float and v == v) for v in given):
        return np.array(given)
    column = np.empty(len(given), dtype=object)
    column[:] = [None if _is_missing(v) else v for v in given]
    return column


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _folder(source: Path) -> Path:
    """A folder with the files of the model alone."""
    if source.is_dir():
        return source
    folder = Path(tempfile.mkdtemp(dir=source.parent))
    shutil.copy(source, folder)
    return folder
