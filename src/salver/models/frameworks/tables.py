"""Inputs of models of tables: a DataFrame, or a matrix of numbers.

It does not know the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from salver.models.description import Inputs


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


def as_matrix(inputs: Inputs, dtype: str = "float64") -> np.ndarray[Any, Any]:
    """The columns side by side, shape (n, k); a missing value is NaN."""
    if is_matrix(inputs):
        return np.asarray(next(iter(inputs.values())), dtype=dtype)
    return np.column_stack([np.asarray(values, dtype=dtype) for values in inputs.values()])


def is_matrix(inputs: Inputs) -> bool:
    """Whether the only input is a tensor with the features of a row in it."""
    return len(inputs) == 1 and next(iter(inputs.values())).ndim > 1
