"""The results of one chunk: from batches in the order of length back to rows in input order.

It does not know formats nor replicas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from salver.lengths import Lengths
from salver.offline.rows import Chunk, dump
from salver.offline.writers import Writer
from salver.types import Batch, ClassProbabilities, Failure, Outcomes


def batches(batch: Batch, max_batch_size: int, lengths: Lengths) -> list[list[int]]:
    """Indices of the rows that go together: neighbours in length, so that little is padded."""
    measured = lengths.of(batch.rows)
    order = sorted(range(len(batch)), key=measured.__getitem__)
    return [order[at : at + max_batch_size] for at in range(0, len(order), max_batch_size)]


class Results:
    """What became of each row of a chunk.

    Args:
        chunk: The rows.
        groups: Indices into the chunk's batch, as cut by `batches`.
        outcomes: The outcomes of each group.
    """

    def __init__(
        self, chunk: Chunk, groups: Sequence[Sequence[int]], outcomes: Sequence[Outcomes]
    ) -> None:
        self._chunk = chunk
        self.failures: dict[int, Failure] = dict(chunk.rejected)
        self.abstained = sum(len(o.abstained) for o in outcomes)
        positions = chunk.positions
        for group, answered in zip(groups, outcomes, strict=True):
            for i, failure in answered.failures.items():
                self.failures[positions[group[i]]] = failure
        self._columns = _in_order(len(chunk), positions, groups, outcomes)

    def encode(self, writer: Writer) -> bytes | None:
        """The part of the chunk, or null if no row got a result.

        Rows whose result cannot be written (no valid Unicode, more than 64 bits) become failures.
        """
        try:
            return self._encode(writer)
        except (TypeError, UnicodeEncodeError):
            self._fail_unwritable()
            return self._encode(writer)

    def quarantine(self) -> bytes | None:
        """One JSON line per failed row, or null if none failed."""
        if not self.failures:
            return None
        return b"".join(dump(self._entry(i)) + b"\n" for i in sorted(self.failures))

    def codes(self) -> dict[str, int]:
        """How many rows failed, by code."""
        return dict(sorted(Counter(f.code for f in self.failures.values()).items()))

    def first_failure(self) -> str:
        """Where the first failed row stands, and why it failed."""
        first = min(self.failures)
        block, i = self._chunk.locate(first)
        where = ", ".join(f"{k} {v}" for k, v in block.position(i).items())
        return f"{where}: {self.failures[first].message}"

    def _encode(self, writer: Writer) -> bytes | None:
        sound = [i for i in self._chunk.positions if i not in self.failures]
        if not sound:
            return None
        columns = {name: _at(column, sound) for name, column in self._columns.items()}
        return writer.encode(self._chunk.given(sound), columns)

    def _fail_unwritable(self) -> None:
        for i in self._chunk.positions:
            if i in self.failures:
                continue
            for name, column in self._columns.items():
                try:
                    dump(column[i])
                except TypeError as error:
                    message = f"The model's output in column {name!r} cannot be written: {error}."
                    self.failures[i] = Failure("bad_model_output", message)

    def _entry(self, position: int) -> dict[str, Any]:
        block, i = self._chunk.locate(position)
        failure = self.failures[position]
        return {
            "position": block.position(i),
            "code": failure.code,
            "message": failure.message,
            "detail": failure.detail,
            "path": list(failure.path),
            "row": block.as_read(i),
        }


def _in_order(
    size: int,
    positions: Sequence[int],
    groups: Sequence[Sequence[int]],
    outcomes: Sequence[Outcomes],
) -> dict[str, Sequence[Any]]:
    """The columns of all groups by position in the chunk; null where a row has no result."""
    ordered: dict[str, Sequence[Any]] = {}
    for name in dict.fromkeys(name for o in outcomes for name in o.columns):
        found = [o.columns.get(name) for o in outcomes]
        classes = {c.classes if isinstance(c, ClassProbabilities) else None for c in found}
        same = classes.pop() if len(classes) == 1 else None
        values: list[Any] = [None] * size
        for group, column in zip(groups, found, strict=True):
            if column is None:
                continue
            given = column.values if same and isinstance(column, ClassProbabilities) else column
            for i, value in zip(group, given, strict=True):
                values[positions[i]] = value
        # Two classes of one name can be no columns of their own: they go as mappings.
        distinct = same is not None and len(set(same)) == len(same)
        ordered[name] = ClassProbabilities(same, values) if distinct and same else values
        if same and not distinct:
            ordered[name] = [None if v is None else dict(zip(same, v, strict=True)) for v in values]
    return ordered


def _at(column: Sequence[Any], positions: Sequence[int]) -> Sequence[Any]:
    if isinstance(column, ClassProbabilities):
        return ClassProbabilities(column.classes, [column.values[i] for i in positions])
    return [column[i] for i in positions]


def merged(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Sums of counts by code."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))
