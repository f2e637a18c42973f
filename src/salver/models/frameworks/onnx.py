"""ONNX, on ONNX Runtime. A graph is data: loading it runs no code of the artefact.

Names of classes are read from the operators that hold them: those of linear models, trees and
support vector machines, and ZipMap. It does not know where the files came from.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.protobuf import inner, integers
from salver.models.frameworks.tables import as_matrix, in_batches
from salver.models.signature import Column, Signature, tensor
from salver.settings import math_threads

LIBRARY = "onnxruntime"
MODULES = ("onnxruntime",)
EXTRA = "onnx"
FLAVORS = ("onnx",)

_TYPE = re.compile(r"tensor\((\w+)\)")
_DTYPES = {
    "float": "float32", "double": "float64", "string": "str",
    **{name: name for name in ("bool", "float16", "int8", "int16", "int32", "int64")},
    **{name: name for name in ("uint8", "uint16", "uint32", "uint64")},
}  # fmt: skip
_LABELS, _SCORES = ("label", "output_label"), ("probabilities", "output_probability")
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def recognise(names: tuple[str, ...]) -> bool:
    """One `.onnx` file, with files of weights beside it."""
    return sum(name.endswith(".onnx") for name in names) == 1


def code_in(_artifact: Artifact) -> list[str]:
    """None: operators of other libraries are not loaded, so a graph that needs one is refused."""
    return []


def signature_of(artifact: Artifact) -> Signature:
    """The inputs of the graph."""
    return Signature(tuple(map(_column, _session(artifact).get_inputs())))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The graph behind `Graph`."""
    return Graph(_session(artifact), signature, _classes(artifact.path(_file(artifact))))


class Graph:
    """Asks a session; answers with its outputs by name.

    The two outputs of the classifiers of skl2onnx and onnxmltools are called by the field's names,
    `prediction` and `probabilities`.

    Args:
        session: ONNX Runtime's.
        signature: Columns that are named as inputs are fed to them; else all make up the one.
        classes: Names of the classes, if the graph has them.

    Raises:
        CheckpointError: If the signature does not fit the inputs of the graph.
    """

    def __init__(self, session: Any, signature: Signature, classes: list[Any]) -> None:
        self._session = session
        given = session.get_inputs()
        self._inputs = {i.name: _column(i) for i in given}
        # Converters of tables make each column a matrix of its own.
        self._matrices = {i.name for i in given if len(i.shape) == 2}
        outputs = {o.name: o for o in session.get_outputs()}
        self._is_classifier = len(outputs) == 2 and all(
            any(name in outputs for name in names) for names in (_LABELS, _SCORES)
        )
        self._outputs = [_plain_name(n) if self._is_classifier else n for n in outputs]
        width = [o.shape[1] for n, o in outputs.items() if n in _SCORES and len(o.shape) == 2]
        if self._is_classifier and classes and width in ([], [len(classes)]):
            self.classes_ = classes
        self._is_direct = set(self._inputs) <= {column.name for column in signature.columns}
        _check(signature, self._inputs, self._is_direct)
        self._size = _size(given)

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """Every output, one entry per row."""
        feed = self._feed(inputs)
        found = self._run(feed) if self._size is None else in_batches(feed, self._size, self._run)
        return dict(zip(self._outputs, found, strict=True))

    def _run(self, feed: dict[str, Any]) -> list[Any]:
        return [self._array(value) for value in self._session.run(None, feed)]

    def _array(self, value: Any) -> Any:
        if isinstance(value, list) and self._is_classifier:  # ZipMap: a dict for each row
            names = getattr(self, "classes_", None) or list(value[0])
            return np.array([[row[name] for name in names] for row in value])
        array = np.asarray(value)
        is_column = array.ndim == 2 and array.shape[1] == 1
        return array[:, 0] if is_column else array

    def _feed(self, inputs: Inputs) -> dict[str, Any]:
        if not self._is_direct:
            ((name, column),) = self._inputs.items()
            return {name: as_matrix(inputs, _numpy(column))}
        feed = {}
        for name, column in self._inputs.items():
            values = np.asarray(inputs[name], dtype=_numpy(column))
            is_flat = values.ndim == 1 and name in self._matrices
            feed[name] = values[:, None] if is_flat else values
        return feed


def _plain_name(output: str) -> str:
    return "prediction" if output in _LABELS else "probabilities"


def _size(inputs: list[Any]) -> int | None:
    """The fixed number of rows that a graph was made for; null if it takes any."""
    sizes = {i.shape[0] for i in inputs if isinstance(i.shape[0], int)}
    if len(sizes) > 1:
        shapes = ", ".join(f"{i.name!r} {i.shape}" for i in inputs)
        raise CheckpointError(
            f"The graph's inputs have first dimensions that differ ({shapes}), and it must be the "
            "number of rows. Export the model with a dynamic first dimension for each input."
        )
    return sizes.pop() if sizes else None


def _check(signature: Signature, inputs: dict[str, Column], is_direct: bool) -> None:
    """Checks that the columns of a signature can be fed; raises CheckpointError."""
    given = {column.name: column for column in signature.columns}
    if is_direct:
        pairs = [(given[name], column) for name, column in inputs.items()]
    elif len(inputs) == 1:
        (only,) = inputs.values()
        pairs = [(column, only) for column in given.values()]
    else:
        raise CheckpointError(
            f"The signature names the inputs {list(given)}, and the graph takes {list(inputs)}. "
            "Log the model with a signature whose columns are the graph's inputs."
        )
    widths = {c.shape for c in given.values()} if is_direct or len(given) == 1 else {(len(given),)}
    for column, wanted in pairs:
        shape = column.shape if is_direct else next(iter(widths))
        if not _is_fit(column, wanted) or not _fits_shape(shape, wanted.shape):
            raise CheckpointError(
                f"The signature says that {column.name!r} is of {dict(column.type)!r}, of "
                f"{len(given)} columns, and the graph takes {dict(wanted.type)!r} there"
                + ("" if column.required else ", which cannot be missing")
                + ". Log the model with the signature of what the graph takes."
            )


def _is_fit(column: Column, wanted: Column) -> bool:
    """Whether values of a column keep their meaning as what the graph takes."""
    if column.dtype is None or "str" in (column.dtype, wanted.dtype):
        return column.dtype == wanted.dtype and column.required
    if column.dtype in ("bytes", "datetime64[us]"):
        return False
    # Only floats have a value for what is missing.
    is_float = np.issubdtype(str(wanted.dtype), np.floating)
    return np.can_cast(column.dtype, str(wanted.dtype), "same_kind") and (
        column.required or is_float
    )


def _fits_shape(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    if given in ((), (1,)) and wanted in ((), (1,), (-1,)):
        return True
    pairs = zip(given, wanted, strict=False)
    return len(given) == len(wanted) and all(a == b or -1 in (a, b) for a, b in pairs)


def _column(given: Any) -> Column:
    found = _TYPE.fullmatch(given.type)
    if found is None or found[1] not in _DTYPES or not given.shape:
        raise CheckpointError(
            f"The graph's input {given.name!r} is a {given.type} of shape {given.shape}; Salver "
            "feeds tensors of numbers, booleans or texts whose first dimension counts rows. Export "
            "the model with such inputs."
        )
    shape = [-1 if not isinstance(size, int) else size for size in given.shape[1:]]
    # A column that a converter has made a matrix of its own is a scalar of the row.
    return Column(given.name, tensor(_DTYPES[found[1]], [-1] if shape == [1] else [-1, *shape]))


def _numpy(column: Column) -> str:
    return "object" if column.dtype == "str" else str(column.dtype)


def _file(artifact: Artifact) -> str:
    given = artifact.flavor.get("data")
    if given is None:
        return artifact.with_suffix(".onnx")[0]
    artifact.path(given)
    # Where MLflow keeps weights in files of their own.
    return f"{given}/model.onnx" if f"{given}/model.onnx" in artifact.names else str(given)


def _session(artifact: Artifact) -> Any:
    import onnxruntime as ort

    name = _file(artifact)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = math_threads() or 0
    available = [p for p in PROVIDERS if p in ort.get_available_providers()]
    try:
        return ort.InferenceSession(str(artifact.path(name)), options, providers=available)
    except Exception as error:  # ONNX Runtime has a class for each status, all without a base
        raise CheckpointError(f"{name} is no graph that ONNX Runtime loads: {error}") from error


def _classes(path: Path) -> list[Any]:
    """Names of the classes, if all operators that have some have the same ones.

    They are attributes of operators, which ONNX Runtime does not show; so they are looked up in the
    file, past the weights: ModelProto.graph is field 7, GraphProto.node 1, NodeProto.attribute 5,
    AttributeProto.name 1, .ints 8 and .strings 9.
    """
    found: list[list[Any]] = []
    with path.open("rb") as file:
        model = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        for attribute in inner(model, 7, 1, 5):
            classes = _class_names(attribute)
            if classes and classes not in found:
                found.append(classes)
    except ValueError:  # ONNX Runtime reads formats beside protobuf
        return []
    return found[0] if len(found) == 1 else []


def _class_names(attribute: memoryview) -> list[Any]:
    name = b"".join(inner(attribute, 1))
    if not name.startswith(b"classlabels_"):
        return []
    texts = [bytes(text).decode() for text in inner(attribute, 9)]
    return texts or list(integers(attribute, 8))
