"""The words of Salver: rows, batches and what becomes of them.

Everything may import this module; it imports nothing of Salver's. It does not know where rows
come from (HTTP, files, a notebook) nor what a model is.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

Row = Mapping[str, Any]
Dtype = Literal["string", "int64", "float64", "bool", "object"]
Mode = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Field:
    """One input field: its name, its column dtype and whether it may be null."""

    name: str
    dtype: Dtype
    nullable: bool = False


@dataclass(slots=True)  # frozen, it would take three times as long to make, for every request
class Batch:
    """Rows that have passed the schema. Nobody changes one.

    Rows are tuples in the order of `fields`, so that queues can regroup them for nothing;
    `columns()` makes the arrays a model sees. Only `salver.schema` makes a batch from outside
    data: slices, selections and sums of batches are the only other way to get one.
    """

    fields: tuple[Field, ...]
    rows: Sequence[tuple[Any, ...]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(self.fields, self.rows[part])

    def __add__(self, other: Batch) -> Batch:
        return Batch(self.fields, [*self.rows, *other.rows])

    @property
    def names(self) -> tuple[str, ...]:
        """Field names in order."""
        return tuple(f.name for f in self.fields)

    def take(self, indices: Iterable[int]) -> Batch:
        """The rows at `indices`, in that order."""
        return Batch(self.fields, [self.rows[i] for i in indices])

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns for a model: one array of shape (n,) per field.

        Returns:
            int64, float64 and bool arrays; strings and other values as object arrays (a `<U`
            array would drop trailing NULs). Null is NaN in a float64 column and None in an
            object array; a nullable int64 or bool field becomes an object array.
        """
        import numpy as np

        values: Iterable[tuple[Any, ...]] = zip(*self.rows, strict=True)
        if not self.rows:
            values = [() for _ in self.fields]
        columns = {}
        for f, column in zip(self.fields, values, strict=True):
            if f.dtype == "float64" or (f.dtype in ("int64", "bool") and not f.nullable):
                columns[f.name] = np.array(column, dtype=f.dtype)
            else:
                array = np.empty(len(column), dtype=object)
                array[:] = column
                columns[f.name] = array
        return columns


def text_length(row: tuple[Any, ...]) -> int:
    """Characters of text in a row: what a model will have to read, for grouping by length."""
    length = 0
    for value in row:  # for each row of each request: a generator takes three times as long
        if isinstance(value, str):
            length += len(value)
    return length


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one row has no result.

    Attributes:
        code: Stable identifier such as `model_error`.
        message: For the person who sent the row; holds no path, name of a file or traceback.
        detail: For logs and the quarantine file of the owner; may hold anything.
        path: Where in the row the trouble is, outermost first.
    """

    code: str
    message: str
    detail: str | None = None
    path: tuple[str | int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The public part."""
        public: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.path:
            public["path"] = list(self.path)
        return public


class RowFailed(KeyError):
    """A column was read from an outcome that holds a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.failure.code}: {self.failure.message}"


@dataclass(slots=True)  # frozen, it would take three times as long to make, for every row
class Outcome:
    """What became of one row: a result or a failure, never both. Nobody changes one.

    Attributes:
        value: The result by column name, for example `prediction` and `probabilities`.
        failure: Why there is no result.
        abstained: True when a policy withheld the model's own answer.
        details: What is known of the result beyond it, for whoever asks; null if nothing is.
    """

    value: dict[str, Any] | None
    failure: Failure | None = None
    abstained: bool = False
    details: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """True when there is a result."""
        return self.failure is None

    def __getitem__(self, name: str) -> Any:
        if self.value is None:
            assert self.failure is not None
            raise RowFailed(self.failure)
        return self.value[name]

    def as_json(self, details: Sequence[str] = ()) -> dict[str, Any]:
        """The result as it is sent to a client, or `{"error": {...}}`.

        Args:
            details: Names of those that the client asked for; null where there are none. What the
                model gives by itself under such a name stays.
        """
        if self.failure is not None:
            return {"error": self.failure.as_json()}
        value = self.value or {}
        if not details:
            return value
        known = self.details or {}
        return {**value, **{name: known.get(name) for name in details if name not in value}}


@dataclass(frozen=True, slots=True)
class ClassProbabilities(Sequence[dict[str, float]]):
    """A column of class probabilities: names once, a list of k floats per row."""

    classes: tuple[str, ...]
    values: Sequence[Sequence[float]]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return ClassProbabilities(self.classes, self.values[i])
        return dict(zip(self.classes, self.values[i], strict=True))

    def __iter__(self) -> Iterator[dict[str, float]]:
        classes = self.classes
        return iter([dict(zip(classes, row)) for row in self.values])  # noqa: B905 - see Pipeline


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One outcome per row of a batch, held by column.

    Attributes:
        size: Number of rows.
        columns: Plain Python values, `size` of each; what stands at a failed row means nothing.
        failures: The failed rows by position.
        abstained: Positions at which a policy withheld the model's own answer.
        details: Columns like these that a client gets if it asks for them.
    """

    size: int
    columns: Mapping[str, Sequence[Any]]
    failures: Mapping[int, Failure] = field(default_factory=dict)
    abstained: frozenset[int] = frozenset()
    details: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> Outcome:
        if not 0 <= i < self.size:
            raise IndexError(i)
        failure = self.failures.get(i)
        if failure is not None:
            return Outcome(None, failure)
        value = {name: column[i] for name, column in self.columns.items()}
        details = {name: column[i] for name, column in self.details.items()}
        return Outcome(value, None, i in self.abstained, details or None)

    def __iter__(self) -> Iterator[Outcome]:
        names = tuple(self.columns)
        rows = (
            zip(*self.columns.values(), strict=True) if names else itertools.repeat((), self.size)
        )
        failures, abstained = self.failures, self.abstained
        if self.details:
            yield from (self[i] for i in range(self.size))
            return
        for i, row in enumerate(rows):
            if i in failures:
                yield Outcome(None, failures[i])
            else:
                yield Outcome(dict(zip(names, row)), None, i in abstained)  # noqa: B905


class Replica(Protocol):
    """One loaded deployment somewhere: a thread, a child process, a Ray actor, or a pool."""

    def run(self, batch: Batch) -> Awaitable[Outcomes]:
        """Predicts one batch; raises `ReplicaDied` when the replica ended instead."""
        ...
