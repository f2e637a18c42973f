"""What a model returns, checked: one entry per row, of plain values, numbers finite.

It does not know what the model was asked, nor what becomes of its answers.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from salver.columns import INT64_MAX, INT64_MIN
from salver.types import Failure

PROBABILITIES = "probabilities"
PREDICTION = "prediction"
HIDDEN_STATES = "hidden_states"  # for the novelty of a row, and for no client
TRUNCATED = "truncated"
Array = np.ndarray[Any, Any]


class BadModelOutput(Exception):
    """What a model returned is not one entry per row of plain values."""


def as_columns(output: Any, n: int) -> dict[str, Sequence[Any]]:
    """The model's output as columns of n entries, whichever accepted form it has.

    Raises:
        BadModelOutput: If it has none of these forms.
    """
    columns: dict[str, Sequence[Any]]
    if type(output) is dict:  # nearly always; the other looks take a while each
        columns = {str(name): values for name, values in output.items()}
    elif isinstance(output, np.ndarray) and output.ndim == 2:
        columns = {PROBABILITIES: output}  # type: ignore[dict-item]
    elif hasattr(output, "to_dict") and hasattr(output, "columns"):  # a pandas DataFrame
        columns = {str(name): output[name].tolist() for name in output.columns}
    elif isinstance(output, Mapping):
        columns = {str(name): values for name, values in output.items()}
    elif isinstance(output, np.ndarray | list | tuple):
        columns = {PREDICTION: output}  # type: ignore[dict-item]
    else:
        raise BadModelOutput(
            f"it is a {type(output).__name__}; expected a dict of columns or an array with one "
            "entry per row."
        )
    for name, values in columns.items():
        size = _size(values)
        if size != n:
            given = f"is a {type(values).__name__}" if size is None else f"has {size} entries"
            raise BadModelOutput(f"column {name!r} {given}, expected {n} entries, one per row.")
    if not columns:
        raise BadModelOutput("it has no columns.")
    return columns


def _size(values: Any) -> int | None:
    """Entries of a column; null for what is no column, or has no order."""
    if type(values) is list:
        return len(values)
    if isinstance(values, str | bytes | Mapping | Set) or not hasattr(values, "__len__"):
        return None
    if isinstance(values, np.ndarray) and values.ndim == 0:
        return None
    return len(values)


def probabilities_of(raw: Any, n: int, classes: int) -> Array:
    """float64 of shape (n, k).

    Args:
        raw: What the model gave.
        n: Rows.
        classes: Names that it has; 0 if it names none.

    Raises:
        BadModelOutput: If they are anything else.
    """
    try:
        array = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadModelOutput("probabilities are not an array of numbers.") from None
    if array.ndim != 2 or len(array) != n or (classes and array.shape[1] != classes):
        raise BadModelOutput(
            f"probabilities have shape {array.shape}, expected {(n, classes or 'k')}."
        )
    return array


def plain(value: Any, name: str, row: int, failures: dict[int, Failure]) -> Any:
    """`value` as JSON knows it; a number that is not finite, or an exception, fails the row.

    Raises:
        BadModelOutput: If JSON does not know it.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, int):
        return _integer(value, name)
    if isinstance(value, float):
        if not np.isfinite(value):
            failures.setdefault(row, _not_finite(name))
        return value
    if isinstance(value, list | tuple):
        return [plain(v, name, row, failures) for v in value]
    if isinstance(value, Mapping):
        return {_text(str(k), name): plain(v, name, row, failures) for k, v in value.items()}
    if isinstance(value, Exception):  # of a model that asks others, and knows which row failed
        failures.setdefault(row, failure_of(value))
        return None
    raise BadModelOutput(
        f"column {name!r} holds a {type(value).__name__}; expected texts, numbers, booleans, null, "
        "and lists or mappings of these."
    )


def _text(value: str, name: str) -> str:
    text = str.__str__(value)  # a member of an enum of texts is its text
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadModelOutput(f"column {name!r} holds a text with a lone surrogate.") from None
    return text


def _integer(value: int, name: str) -> int:
    if INT64_MIN <= value <= INT64_MAX:
        return int(value)
    raise BadModelOutput(f"column {name!r} holds an integer beyond 64 bits.")


def plain_row(result: Mapping[str, Any]) -> tuple[dict[str, Any], Failure | None]:
    """One result as plain values, and why it cannot be given if it holds NaN or inf.

    Raises:
        BadModelOutput: If it holds what JSON does not know.
    """
    failures: dict[int, Failure] = {}
    value = {str(name): plain(v, str(name), 0, failures) for name, v in result.items()}
    return value, failures.get(0)


def fail_what_is_not_finite(numbers: Array, name: str, failures: dict[int, Failure]) -> None:
    """Adds a failure for each row of numbers, of shape (n, k), with one that is not finite."""
    finite = np.isfinite(numbers)
    if not finite.all():
        for i in np.flatnonzero(~finite.all(axis=1)):
            failures[int(i)] = _not_finite(name)


def _not_finite(name: str) -> Failure:
    return Failure(
        "non_finite_output", f"The model gave a number that is not finite (NaN or inf) in {name!r}."
    )


def hidden_states_of(given: Any) -> Array | None:
    """float32 array of shape (n, l, d), or null.

    Raises:
        BadModelOutput: If it is anything else.
    """
    if given is None:
        return None
    try:
        array = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError):
        raise BadModelOutput(f"{HIDDEN_STATES} are not an array of numbers.") from None
    if array.ndim not in (2, 3):
        raise BadModelOutput(
            f"{HIDDEN_STATES} have shape {array.shape}, expected (n, d), or (n, l, d) of l layers."
        )
    return array if array.ndim == 3 else array[:, None, :]


def failure_of(error: BaseException) -> Failure:
    """What an exception of a model is for the row that it was raised at."""
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, BadModelOutput):
        return Failure("bad_model_output", f"The model's output is not usable: {error}", detail)
    kind = type(error).__name__
    return Failure("model_error", f"The model raised {kind} on this row.", detail)
