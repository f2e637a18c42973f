"""Inputs of models of tables (a DataFrame, or a matrix of numbers), and batches of a fixed size.

It does not know the model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Inputs
from salver.models.signature import Column, Signature

Array = np.ndarray[Any, Any]


def as_table(inputs: Inputs, names: Any = None) -> Any:
    """A matrix for the one tensor of a model that was trained on arrays, else a DataFrame.

    Args:
        inputs: Typed columns.
        names: The model's own feature names, in its order; null where it has none.
    """
    if is_matrix(inputs):
        return next(iter(inputs.values()))
    import pandas as pd

    frame = pd.DataFrame(dict(inputs))
    if names is not None and list(names) != list(frame.columns) and set(names) <= set(frame):
        return frame[list(names)]
    return frame


def as_matrix(inputs: Inputs, dtype: str = "float64") -> Array:
    """The columns side by side, shape (n, k); a missing value is NaN."""
    if is_matrix(inputs):
        return np.asarray(next(iter(inputs.values())), dtype=dtype)
    return np.column_stack([np.asarray(values, dtype=dtype) for values in inputs.values()])


def is_matrix(inputs: Inputs) -> bool:
    """Whether the only input is a tensor with the features of a row in it."""
    return len(inputs) == 1 and next(iter(inputs.values())).ndim > 1


class Features:
    """The features of a model, found among the columns of a signature.

    Args:
        signature: One tensor with all features in it, or a column for each.
        count: How many features the model takes.
        names: Its names for them; null if it was trained without, so that the order counts.
        categories: By feature name, the codes of its categories.
        unknown_is_missing: Whether a category that the model does not know counts as missing; else
            it is an error of the row.
        others: Places of the features that are no numbers, which the caller checks.

    Raises:
        CheckpointError: If they do not fit.
    """

    def __init__(
        self,
        signature: Signature,
        count: int,
        names: Sequence[str] | None,
        categories: Mapping[str, Mapping[Any, int]] | None = None,
        unknown_is_missing: bool = False,
        others: Collection[int] = (),
    ) -> None:
        columns = {column.name: column for column in signature.columns}
        given = list(columns)
        shape = signature.columns[0].shape
        self._is_tensor = bool(shape)
        width = shape[0] if shape else len(given)
        if width not in (count, -1) or len(shape) > 1 or (shape and len(given) > 1):
            raise CheckpointError(
                f"The signature has the inputs {_shown(given)} (a row of shape {shape or (width,)}), "
                f"and the model takes {count} features. {_AGAIN}"
            )
        if names is not None and not self._is_tensor and set(names) != set(given):
            raise CheckpointError(
                f"The signature names the inputs {_shown(given)}, and the model was trained on "
                f"{_shown(names)}. {_AGAIN}"
            )
        self.order = list(names) if names is not None and not self._is_tensor else given
        self._codes = dict(categories or {})
        self._unknown_is_missing = unknown_is_missing
        for i, name in enumerate(self.order):
            if i not in others:
                self._check(columns[name])

    def matrix(self, inputs: Inputs, dtype: str) -> Array:
        """The features of each row in the model's order, categories as their codes.

        Raises:
            ValueError: For a category that the model does not know, if that is an error.
        """
        if self._is_tensor:
            return as_matrix(inputs, dtype)
        columns = {name: inputs[name] for name in self.order}
        for name, codes in self._codes.items():
            columns[name] = self._coded(name, inputs[name].tolist(), codes)
        return as_matrix(columns, dtype)

    def _coded(self, name: str, values: list[Any], codes: Mapping[Any, int]) -> Array:
        present = [v for v in values if not _is_missing(v)]
        unknown = next((v for v in present if v not in codes), None)
        if unknown is not None and not self._unknown_is_missing:
            raise ValueError(f"{name!r} is {unknown!r}, which is none of {_shown(list(codes))}")
        return np.array([codes.get(v, np.nan) for v in values])

    def _check(self, column: Column) -> None:
        codes = self._codes.get(column.name)
        if codes is None:
            check_number(column)
        elif any(isinstance(known, str) for known in codes) != (column.dtype == "str"):
            raise CheckpointError(
                f"The signature says that {column.name!r} is of {dict(column.type)!r}, and the "
                f"model knows it as one of {_shown(list(codes))}. {_AGAIN}"
            )


_AGAIN = "Log the model with the signature of what it was trained on."


def check_number(column: Column) -> None:
    """Checks that a column holds what a model of numbers can take.

    Raises:
        CheckpointError: If it holds texts, times or nested values.
    """
    if column.dtype in (None, "str", "bytes", "datetime64[us]"):
        raise CheckpointError(
            f"The signature says that {column.name!r} is of {dict(column.type)!r}, and the model "
            f"takes numbers there. {_AGAIN}"
        )


def codes_of(categories: Sequence[Any]) -> dict[Any, int]:
    """The code of each category: its place."""
    return {category: code for code, category in enumerate(categories)}


def kind_of(categories: Collection[Any]) -> str:
    """The scalar type of categories, by numpy's name; empty if there are none."""
    kinds = {str: "object", bool: "bool", int: "int64"}
    return kinds.get(type(next(iter(categories), None)), "float64" if categories else "")


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _shown(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")


def in_batches(
    feed: Mapping[str, Array], size: int, run: Callable[[dict[str, Array]], Sequence[Any]]
) -> list[Array]:
    """Asks a model for exactly `size` rows at a time; the last batch is filled up with its last row.

    Args:
        feed: Inputs of any number of rows.
        size: How many rows `run` takes.
        run: Outputs for a batch, each with an entry per row.
    """
    n = len(next(iter(feed.values())))
    parts = []
    for start in range(0, n, size):
        batch = {name: _filled(values[start : start + size], size) for name, values in feed.items()}
        parts.append([np.asarray(values)[: n - start] for values in run(batch)])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _filled(values: Array, size: int) -> Array:
    short = size - len(values)
    return np.concatenate([values, np.repeat(values[-1:], short, axis=0)]) if short else values
