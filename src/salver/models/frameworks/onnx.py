"""ONNX, on ONNX Runtime. A graph is data: loading it runs no code of the artefact.

It does not know where the files came from.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.tables import as_matrix
from salver.models.signature import Column, Signature, tensor

LIBRARY = "onnxruntime"
MODULES = ("onnxruntime",)
EXTRA = "onnx"
FLAVORS = ("onnx",)

_TYPE = re.compile(r"tensor\((\w+)\)")
_DTYPES = {"float": "float32", "double": "float64", "string": "str"}
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
    return Graph(_session(artifact), signature)


class Graph:
    """Asks a session; answers with its outputs by name.

    Args:
        session: ONNX Runtime's.
        signature: Columns that are named as inputs are fed to them; else all make up the one.

    Raises:
        CheckpointError: If the signature does not fit the inputs of the graph.
    """

    def __init__(self, session: Any, signature: Signature) -> None:
        self._session = session
        self._inputs = [_column(i) for i in session.get_inputs()]
        self._outputs = [o.name for o in session.get_outputs()]
        names = [column.name for column in signature.columns]
        wanted = [column.name for column in self._inputs]
        self._is_direct = set(wanted) <= set(names)
        if not self._is_direct and len(wanted) > 1:
            raise CheckpointError(
                f"The signature names the inputs {names}, and the graph takes {wanted}. Log the "
                "model with a signature whose columns are the graph's inputs."
            )
        # A graph that was made for one row at a time is asked so.
        self._fixed = any(i.shape and i.shape[0] == 1 for i in session.get_inputs())

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """Every output, one entry per row; see `_as_classifier` for those of classifiers."""
        feed = self._feed(inputs)
        if not self._fixed:
            return self._named(self._session.run(None, feed))
        n = len(next(iter(feed.values())))
        rows = [
            self._session.run(None, {k: v[i : i + 1] for k, v in feed.items()}) for i in range(n)
        ]
        return self._named([np.concatenate(values) for values in zip(*rows, strict=True)])

    def _feed(self, inputs: Inputs) -> dict[str, Any]:
        if not self._is_direct:
            only = self._inputs[0]
            return {only.name: as_matrix(inputs, _numpy(only))}
        feed = {}
        for column in self._inputs:
            values = np.asarray(inputs[column.name], dtype=_numpy(column))
            # Converters of tables make each column a matrix of its own.
            is_column = column.shape == (1,) and values.ndim == 1
            feed[column.name] = values[:, None] if is_column else values
        return feed

    def _named(self, values: list[Any]) -> dict[str, Any]:
        named = dict(zip(self._outputs, values, strict=True))
        return _as_classifier(named) or {name: _flat(value) for name, value in named.items()}


def _as_classifier(outputs: dict[str, Any]) -> dict[str, Any] | None:
    """The two outputs of classifiers of scikit-learn and boosters, by the field's names.

    skl2onnx and onnxmltools call them `label` or `output_label`, and `probabilities` or
    `output_probability`.
    """
    labels = next((v for n, v in outputs.items() if n in ("label", "output_label")), None)
    scores = ("probabilities", "output_probability")
    found = next((v for n, v in outputs.items() if n in scores), None)
    if labels is None or found is None or len(outputs) != 2:
        return None
    return {"prediction": np.asarray(labels).reshape(-1), "probabilities": found}


def _flat(value: Any) -> Any:
    array = np.asarray(value)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _column(given: Any) -> Column:
    found = _TYPE.fullmatch(given.type)
    if found is None:
        raise CheckpointError(
            f"The graph's input {given.name!r} is a {given.type}; Salver feeds tensors. Export the "
            "model with tensors as inputs."
        )
    dtype = _DTYPES.get(found[1], found[1])
    shape = [-1 if not isinstance(size, int) else size for size in given.shape]
    return Column(given.name, tensor(dtype, [-1, *shape[1:]]))


def _numpy(column: Column) -> str:
    return "object" if column.dtype == "str" else str(column.dtype)


def _session(artifact: Artifact) -> Any:
    import onnxruntime as ort

    given = artifact.flavor.get("data")
    name = artifact.with_suffix(".onnx")[0] if given is None else given
    if given is not None and artifact.with_suffix(f"{given}/model.onnx"):
        name = f"{given}/model.onnx"  # where MLflow keeps weights in files of their own
    options = ort.SessionOptions()
    options.log_severity_level = 3
    available = [p for p in PROVIDERS if p in ort.get_available_providers()]
    try:
        return ort.InferenceSession(str(artifact.path(name)), options, providers=available)
    except Exception as error:  # ONNX Runtime has a class for each status, all without a base
        raise CheckpointError(f"{name} is no graph that ONNX Runtime loads: {error}") from error
