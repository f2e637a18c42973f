"""Results in the form that every job writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bench.predictors import CLASSES


def table(given: Mapping[str, Any], probabilities: np.ndarray) -> pa.Table:
    """The input's columns, the prediction and the probabilities.

    Args:
        given: columns of the input, n values each.
        probabilities: float of shape (n, 4).
    """
    columns = {name: pa.array(values) for name, values in given.items()}
    names = pa.array(CLASSES)
    columns["prediction"] = names.take(pa.array(probabilities.argmax(axis=1)))
    columns["probabilities"] = pa.StructArray.from_arrays(
        [pa.array(np.ascontiguousarray(column)) for column in probabilities.T], list(CLASSES)
    )
    return pa.table(columns)


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches of rows of similar length."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[at : at + size] for at in range(0, len(order), size)]
