"""Rows on their way through an offline job: blocks of one file, and chunks of blocks.

A block is a run of rows of one file after the check; a chunk is the unit of commit. Where blocks
and chunks end depends on the input and the plan alone, so that a job that is resumed cuts the
same batches. It does not know formats of files.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import accumulate
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from salver.types import Batch, Failure, Field

CHUNK_BYTES = 16 << 20  # a chunk of very long rows ends here, so that memory stays bounded


class Cursor(NamedTuple):
    """Where reading goes on: the next row, the lines before it, and its offset in bytes."""

    file: int = 0
    row: int = 0
    line: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A run of rows of one file.

    Attributes:
        file: Name of the file.
        first: Number of the first row in its file, from 0.
        lines: Number of the first line of each row, from 1; null where a format has no lines.
        checked: Per row: its values in the order of the schema's fields, or why it is refused.
        given: The rows as read: an Arrow record batch, or per row a mapping (for a row that could
            not be taken apart, its cells or its text).
        size: Bytes of the rows, roughly.
        end: Where the next block starts.
        bytes_done: Bytes of the file up to there.
    """

    file: str
    first: int
    lines: Sequence[int] | None
    checked: Sequence[tuple[Any, ...] | Failure]
    given: Any
    size: int
    end: Cursor
    bytes_done: int

    def __len__(self) -> int:
        return len(self.checked)

    def position(self, i: int) -> dict[str, Any]:
        """Where row `i` of the block stands, for people."""
        where: dict[str, Any] = {"file": self.file, "row": self.first + i}
        return where if self.lines is None else {**where, "line": self.lines[i]}

    def as_read(self, i: int) -> Any:
        """Row `i` of the block as plain Python values."""
        if isinstance(self.given, pa.RecordBatch):
            return as_mappings(self.given.slice(i, 1))[0]
        return self.given[i]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows that are committed together.

    Attributes:
        index: Number of the chunk, from 0.
        blocks: Its rows.
        batch: The rows that passed the schema.
        positions: For each row of `batch`, its position in the chunk.
        rejected: Why each other row was refused, by position.
        bytes_done: Bytes of the whole input up to the end of the chunk.
    """

    index: int
    blocks: tuple[Block, ...]
    batch: Batch
    positions: list[int]
    rejected: dict[int, Failure]
    bytes_done: int

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def end(self) -> Cursor:
        """Where the next chunk starts."""
        return self.blocks[-1].end

    def locate(self, position: int) -> tuple[Block, int]:
        """The block that holds a row, and the row's place in it."""
        starts = [0, *accumulate(map(len, self.blocks))]
        at = bisect_right(starts, position) - 1
        return self.blocks[at], position - starts[at]

    def given(self, positions: Sequence[int]) -> Any:
        """The rows at ascending `positions` as read: an Arrow table, or a list of mappings."""
        if isinstance(self.blocks[0].given, pa.RecordBatch):
            table = pa.Table.from_batches([b.given for b in self.blocks])
            return table if len(positions) == len(table) else table.take(pa.array(positions))
        rows = [row for block in self.blocks for row in block.given]
        return [rows[i] for i in positions]


def chunks(
    blocks: Iterator[Block],
    fields: tuple[Field, ...],
    *,
    first: int,
    chunk_rows: int,
    bytes_before: Sequence[int],
) -> Iterator[Chunk]:
    """Gathers blocks to chunks; a chunk ends with the block that fills it.

    Args:
        blocks: The rows in input order.
        fields: The schema's fields.
        first: Number of the first chunk.
        chunk_rows: Rows that fill a chunk.
        bytes_before: For each file, by name order of the input, bytes of all files before it.
    """
    gathered: list[Block] = []
    index = first
    for block in blocks:
        gathered.append(block)
        full = sum(map(len, gathered)) >= chunk_rows
        if full or sum(b.size for b in gathered) >= CHUNK_BYTES:
            yield _chunk(index, gathered, fields, bytes_before)
            gathered, index = [], index + 1
    if gathered:
        yield _chunk(index, gathered, fields, bytes_before)


def _chunk(
    index: int, blocks: list[Block], fields: tuple[Field, ...], bytes_before: Sequence[int]
) -> Chunk:
    rows: list[tuple[Any, ...]] = []
    positions: list[int] = []
    rejected: dict[int, Failure] = {}
    checked = (row for block in blocks for row in block.checked)
    for i, row in enumerate(checked):
        if isinstance(row, Failure):
            rejected[i] = row
        else:
            rows.append(row)
            positions.append(i)
    last = blocks[-1]
    done = bytes_before[last.end.file] + last.bytes_done
    return Chunk(index, tuple(blocks), Batch(fields, rows), positions, rejected, done)


def as_mappings(table: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow table or record batch as plain Python values."""
    columns = [plain_values(table.column(i))[0] for i in range(table.num_columns)]
    names = table.schema.names
    if not columns:
        return [{} for _ in range(table.num_rows)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def plain_values(column: Any) -> tuple[list[Any], list[int]]:
    """Plain Python values of an Arrow column, and the positions whose text is no valid UTF-8.

    Times are cut to microseconds, which is what Python's types hold.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    elif pa.types.is_time64(kind):
        column = column.cast(pa.time64("us"), safe=False)
    elif pa.types.is_duration(kind):
        column = column.cast(pa.duration("us"), safe=False)
    try:
        return column.to_pylist(), []
    except UnicodeDecodeError:
        values = column.cast(pa.large_binary()).to_pylist()
    texts = [None if v is None else v.decode(errors="backslashreplace") for v in values]
    bad = [i for i, v in enumerate(values) if v is not None and not _is_utf8(v)]
    return texts, bad


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def dump(value: Any) -> bytes:
    """JSON of values as files hold them: bytes as base64, times as ISO 8601, others as text.

    Raises:
        TypeError: If a text is no valid Unicode, or an integer exceeds 64 bits.
    """
    return orjson.dumps(value, default=_foreign, option=orjson.OPT_NON_STR_KEYS)


def _foreign(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple | set):
        return list(value)
    if isinstance(value, int):  # beyond 64 bits, which JSON readers lose silently
        raise TypeError("an integer exceeds 64 bits")
    return str(value)
