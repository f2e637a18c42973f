"""An estimator of scikit-learn: another object takes its place, which answers from a graph.

What stands there is of the estimator's own class and has its attributes, so that a class can ask it
for steps, names of features or anything else. What it is given is a matrix of numbers, a DataFrame
of numbers and texts, or a list of texts; every other table is left to the estimator. It does not
know how a graph is made of an estimator.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.variants.parts import Array, Call, Run, held, outputs_of, put

METHODS = ("predict", "predict_proba", "decision_function")
FORMS = ("matrix", "table", "texts")
MATRIX = "X"  # name of the only input, where columns have none
# What numbers are given as; a graph of doubles holds integers up to 2**53, as scikit-learn does.
_GIVEN_AS = {
    **{f"{kind}{bits}": "int64" for kind in ("int", "uint") for bits in (8, 16, 32)},
    **{name: name for name in ("int64", "float32", "float64")},
    "bool": "int64",
}


class SklearnPart:
    """See the module's description.

    Args:
        value: A fitted estimator.
        holder: The object that holds it.
        name: Under which name, key or position.
    """

    kind = "sklearn"

    def __init__(self, value: Any, holder: Any, name: str | int) -> None:
        self.value = value
        self._holder, self._name = holder, name
        # Shared by the constants of all calls, so that in the end they say the same.
        self._asked: list[str] = []
        self._not_finite: list[int] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[Call]]:
        """See `Part`; the constants are the form of the table, and what was seen in any call."""
        calls: list[Call] = []

        def ask(method: str, table: Any, *args: Any, **kwargs: Any) -> Any:
            if args or kwargs:
                raise CheckpointError(
                    f"{type(self.value).__name__}.{method} is given more than a table; salver "
                    "optimize exchanges estimators that are given nothing else."
                )
            given = arrays_of(table)
            if given is not None:
                arrays, form = given
                self._asked[:] = sorted({*self._asked, method})
                self._not_finite[:] = sorted({*self._not_finite, *not_finite(arrays.values())})
                seen = {"methods": self._asked, "not_finite": self._not_finite}
                calls.append(Call({n: a.copy() for n, a in arrays.items()}, {**form, **seen}))
            return getattr(self.value, method)(table)

        with held(self._holder, self._name, self.value, _instead(self.value, METHODS, ask)):
            yield calls

    def exchange(
        self, run: Run, inputs: Sequence[tuple[str, str]], constants: Mapping[str, Any]
    ) -> None:
        """See `Part`; the first call of a method shows the shape and dtype of its answers."""
        places = places_of(constants.get("methods", ()))
        if not places or constants.get("form") not in FORMS:
            raise CheckpointError("The graph was made for another kind of part than an estimator.")
        answers: dict[str, Array] = {}

        def ask(method: str, table: Any, *args: Any, **kwargs: Any) -> Any:
            is_usual = method in places and not args and not kwargs
            arrays = arrays_for(table, constants, inputs) if is_usual else None
            found = None if arrays is None else outputs_of(run, arrays)
            if found is None:
                return getattr(self.value, method)(table, *args, **kwargs)
            if method not in answers:
                answers[method] = np.asarray(getattr(self.value, method)(table))[:0]
            return arranged(found[places[method]], answers[method])

        put(self._holder, self._name, _instead(self.value, METHODS, ask))


def places_of(methods: Sequence[str]) -> dict[str, int]:
    """Which output of a graph answers a method; one that no output answers is left out.

    A graph gives labels, or the numbers of a regressor, and then the probabilities. Scores stand in
    their place if they were asked for and probabilities were not.
    """
    scores = "predict_proba" if "predict_proba" in methods else "decision_function"
    return {m: int(m != "predict") for m in methods if m in ("predict", scores)}


def arranged(found: Array, like: Array) -> Array:
    """An output of a graph, in the shape and dtype of the estimator's own answers.

    Args:
        found: The output.
        like: Answers of the estimator, for any number of rows.
    """
    if like.ndim == 1 and found.ndim == 2 and found.shape[1] == 2:
        found = found[:, 1]  # of two classes, the score of the second stands for both
    return found.reshape(len(found), *like.shape[1:]).astype(like.dtype, copy=False)


def arrays_of(table: Any) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """What an estimator is given, as arrays by name, and the form that it had.

    Null for texts of which some are missing: no graph can tell those from empty ones.

    Raises:
        CheckpointError: If no graph can be given such a table.
    """
    dtype = _given_as(table.dtype) if isinstance(table, np.ndarray) else None
    if dtype not in (None, "object") and table.ndim == 2:
        found = table.astype(dtype, copy=False)
        return {MATRIX: found}, {"form": "matrix", "width": table.shape[1]}
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None and isinstance(table, pandas.DataFrame):
        return _columns(table)
    is_series = pandas is not None and isinstance(table, pandas.Series)
    if isinstance(table, list | tuple | np.ndarray) or is_series:
        if all(isinstance(text, str) for text in table):
            return {MATRIX: np.array(list(table), dtype=object)}, {"form": "texts"}
        if all(isinstance(text, str) or _is_missing(text) for text in table):
            return None
    raise CheckpointError(
        f"The estimator is given a {type(table).__name__}; salver optimize exchanges estimators that "
        "are given a matrix of numbers, a DataFrame of numbers and texts, or a list of texts."
    )


def arrays_for(
    table: Any, constants: Mapping[str, Any], inputs: Sequence[tuple[str, str]]
) -> list[Array] | None:
    """The arrays that a graph is given for a table; null if it was made for other tables.

    Args:
        table: What the estimator is given.
        constants: Of the calls that the graph was made for.
        inputs: Names and dtypes of the inputs of the graph.
    """
    try:
        given = arrays_of(table)
    except CheckpointError:
        return None
    if given is None or list(given[0]) != [name for name, _ in inputs]:
        return None
    arrays, form = list(given[0].values()), given[1]
    wanted = [dtype for _, dtype in inputs]
    width, may_miss = sum(array.shape[-1] for array in arrays), constants["not_finite"]
    is_usual = (
        all(constants[key] == value for key, value in form.items())
        and all(
            a.dtype == d or np.can_cast(a.dtype, d) for a, d in zip(arrays, wanted, strict=True)
        )
        # An estimator refuses these, or knows what to do; a graph makes of them what comes out.
        and (len(may_miss) == width or set(not_finite(arrays)) <= set(may_miss))
    )
    if not is_usual:
        return None
    return [array.astype(dtype, copy=False) for array, dtype in zip(arrays, wanted, strict=True)]


def not_finite(arrays: Iterable[Array]) -> list[int]:
    """The columns, counted over all arrays, in which something is missing or infinite."""
    found: list[int] = []
    start = 0
    for array in arrays:
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            found += (start + np.flatnonzero(~finite.all(axis=0))).tolist()
        start += array.shape[-1]
    return found


def _columns(frame: Any) -> tuple[dict[str, Array], dict[str, Any]] | None:
    names = list(frame.columns)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise CheckpointError("The estimator is given a DataFrame whose columns have no names.")
    # All columns at once: to make a Series of each takes longer than most graphs.
    whole = frame.to_numpy()
    found: dict[str, Array] = {}
    for i, (name, dtype) in enumerate(zip(names, frame.dtypes, strict=True)):
        values, wanted = whole[:, i : i + 1], _given_as(dtype)
        if wanted == "object" and not all(isinstance(value, str) for value in values[:, 0]):
            if all(isinstance(value, str) or _is_missing(value) for value in values[:, 0]):
                return None
            wanted = None
        if wanted is None:
            raise CheckpointError(
                f"The estimator is given a column {name!r} of {dtype}; salver optimize exchanges "
                "estimators that are given numbers and texts."
            )
        found[name] = values.astype(wanted, copy=False)
    return found, {"form": "table"}


@lru_cache(maxsize=64)
def _given_as(dtype: Any) -> str | None:
    """What a column is given as; null if a graph cannot be given it."""
    is_text = dtype.name in ("object", "str") or dtype.name.startswith("string")
    return "object" if is_text else _GIVEN_AS.get(dtype.name)


def _is_missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or type(value).__name__ == "NAType"
    )


def table_of(call: Call) -> Any:
    """The table that a call stands for, as the estimator may be given it again."""
    if call.constants["form"] != "table":
        return call.arrays[MATRIX]
    import pandas as pd

    return pd.DataFrame({name: values[:, 0] for name, values in call.arrays.items()})


def _instead(value: Any, methods: Sequence[str], ask: Callable[..., Any]) -> Any:
    """An object with the class and attributes of `value`, whose methods are answered by `ask`.

    A class of its own, for Python looks for `pipeline[-1]` and `len(pipeline)` in the class.
    """

    def answered(method: str) -> Callable[..., Any]:
        def asked(_: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
            return ask(method, X, *args, **kwargs)

        return asked

    kind = type(value)
    own = {method: answered(method) for method in methods if hasattr(value, method)}
    made = types.new_class(kind.__name__, (kind,), exec_body=lambda space: space.update(own))
    instead: Any = object.__new__(made)
    instead.__dict__ = value.__dict__
    return instead
