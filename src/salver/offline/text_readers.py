"""Reads CSV and JSON Lines: a stream of blocks, each bad row its own failure.

It does not know where rows go.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from salver.errors import InputUnreadable
from salver.offline.columns import refuse_duplicates, refuse_missing
from salver.offline.csv_records import MAX_ROW_BYTES, Record, Records, read_line, too_long
from salver.offline.rows import Block, Cursor
from salver.offline.sources import InputFile, Source
from salver.schema import Schema
from salver.types import Failure

BLOCK_ROWS = 512
BLOCK_BYTES = 1 << 20
DELIMITERS = (",", ";", "\t", "|")
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MALFORMED = "malformed_row"

Checked = tuple[Any, ...] | Failure


class _Gathering:
    """A block in the making.

    Attributes:
        row, line, offset: What is read up to here, as in `Cursor`.
        given, checked: The rows of the block; null stands for what is not checked yet.
    """

    def __init__(self, name: str, start: Cursor, block_rows: int) -> None:
        self._name = name
        self._block_rows = block_rows
        self._file, self.row, self.line, self.offset = start
        self._clear()

    def _clear(self) -> None:
        self._lines: list[int] = []
        self.given: list[Any] = []
        self.checked: list[Any] = []
        self._begun = self.offset

    def add(self, line: int, given: Any, checked: Checked | None) -> bool:
        """Adds a row; true if the block is full."""
        self.row += 1
        self._lines.append(line)
        self.given.append(given)
        self.checked.append(checked)
        return len(self.given) >= self._block_rows or self.offset - self._begun >= BLOCK_BYTES

    def take(self, bytes_done: Callable[[int], int]) -> Block:
        """The block; the next one starts here."""
        end = Cursor(self._file, self.row, self.line, self.offset)
        block = Block(
            file=self._name,
            first=self.row - len(self.given),
            lines=self._lines,
            checked=self.checked,
            given=self.given,
            size=self.offset - self._begun,
            end=end,
            bytes_done=bytes_done(self.offset),
        )
        self._clear()
        return block


@dataclass(frozen=True, slots=True)
class _Head:
    """The head of a CSV file: how it is written, its columns, and where its rows start."""

    delimiter: str
    columns: tuple[str, ...]
    start: Cursor


class CsvReader:
    """Rows of CSV files with a header each, all cells as text.

    Args:
        source: The files.
        schema: Checks the rows; its columns tell the delimiter.
        delimiter: One character; null finds it in the header of each file.
        fill_defaults: Whether a column may be missing whose field has a default.

    Raises:
        InputUnreadable: If a file has no usable header.
        MissingColumns: If a header lacks columns of the schema.
    """

    def __init__(
        self, source: Source, schema: Schema, *, delimiter: str | None, fill_defaults: bool
    ) -> None:
        self._source = source
        self._schema = schema
        self._fill_defaults = fill_defaults
        candidates = DELIMITERS if delimiter is None else (delimiter,)
        self._heads = [self._head(i, f, candidates) for i, f in enumerate(source.files)]
        columns = dict.fromkeys(c for head in self._heads for c in head.columns)
        self.columns = pa.schema([(name, pa.string()) for name in columns])

    def blocks(self, start: Cursor, block_rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """The rows from `start` on."""
        for i in range(start.file, len(self._source.files)):
            head = self._heads[i]
            at = start if start.file == i and start.offset else head.start
            yield from self._file(i, at, block_rows)

    def _file(self, index: int, start: Cursor, block_rows: int) -> Iterator[Block]:
        file = self._source.files[index]
        head = self._heads[index]
        with opened(self._source, file, start.offset) as (stream, bytes_done):
            gathering = _Gathering(file.name, start, block_rows)
            records = Records(stream, head.delimiter, start.line + 1)
            for record in records:
                gathering.offset += record.size
                gathering.line = records.next_line - 1
                if record.cells == []:  # a blank line
                    continue
                given, failure = _as_row(record, head.columns)
                if gathering.add(record.line, given, failure):
                    yield self._checked(gathering).take(bytes_done)
            if gathering.given:
                yield self._checked(gathering).take(bytes_done)

    def _checked(self, gathering: _Gathering) -> _Gathering:
        checked = gathering.checked
        sound = [i for i, failure in enumerate(checked) if failure is None]
        result = self._schema.check_rows((gathering.given[i] for i in sound), text=True)
        for at, row in zip(result.positions, result.batch.rows, strict=True):
            checked[sound[at]] = row
        for at, failure in result.rejected.items():
            checked[sound[at]] = failure
        return gathering

    def _head(self, index: int, file: InputFile, delimiters: tuple[str, ...]) -> _Head:
        with opened(self._source, file, 0) as (stream, _):
            data = stream.read(MAX_ROW_BYTES if file.size < MAX_ROW_BYTES else 1 << 20)
        _refuse_utf16(data, file)
        skipped = len(_BOM) if data.startswith(_BOM) else 0
        wanted = set(self._schema.names)
        best: tuple[tuple[int, int], _Head] | None = None
        problem = "it is empty"
        for delimiter in delimiters:
            offset = skipped
            for record in (records := Records(io.BytesIO(data[skipped:]), delimiter)):
                offset += record.size
                if record.cells == []:
                    continue
                if record.cells is None or record.problem:
                    problem = f"line {record.line}: {record.problem}"
                    break
                start = Cursor(index, 0, records.next_line - 1, offset)
                rank = (len(wanted.intersection(record.cells)), len(record.cells))
                if best is None or rank > best[0]:
                    best = rank, _Head(delimiter, tuple(record.cells), start)
                break
        if best is None:
            raise InputUnreadable(
                f"{file.name} has no header with the names of its columns: {problem}. "
                "The first line of a CSV file names the columns."
            )
        refuse_duplicates(file.name, best[1].columns)
        refuse_missing(file.name, best[1].columns, self._schema, self._fill_defaults)
        return best[1]


def _as_row(record: Record, columns: tuple[str, ...]) -> tuple[Any, Failure | None]:
    """A record as a mapping, or as it stands with the reason why it cannot be one."""
    if record.cells is None:
        return record.text, Failure(_MALFORMED, f"Line {record.line}: {record.problem}.")
    if record.problem:
        return record.cells, Failure(_MALFORMED, f"Line {record.line}: {record.problem}.")
    if len(record.cells) != len(columns):
        message = (
            f"Line {record.line} has {len(record.cells)} cells; the header has {len(columns)}."
        )
        return record.cells, Failure(_MALFORMED, message)
    return dict(zip(columns, record.cells, strict=True)), None


class JsonLinesReader:
    """Rows of JSON Lines files; each line is checked exactly like the body of a request.

    Args:
        source: The files.
        schema: Checks the rows.
        fill_defaults: Whether a field with a default may be missing from all rows.

    Raises:
        InputUnreadable: If a file is no JSON Lines.
        MissingColumns: If no row among the first of a file has a column of the schema.
    """

    columns = None  # lines may hold any keys

    def __init__(self, source: Source, schema: Schema, *, fill_defaults: bool) -> None:
        self._source = source
        self._schema = schema
        for index, file in enumerate(source.files):
            first = next(self._file(index, Cursor(index), BLOCK_ROWS), None)
            given = [] if first is None else [row for row in first.given if isinstance(row, dict)]
            if given:
                found = tuple(dict.fromkeys(key for row in given for key in row))
                refuse_missing(file.name, found, schema, fill_defaults)

    def blocks(self, start: Cursor, block_rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """The rows from `start` on."""
        for i in range(start.file, len(self._source.files)):
            yield from self._file(i, start if start.file == i else Cursor(i), block_rows)

    def _file(self, index: int, start: Cursor, block_rows: int) -> Iterator[Block]:
        file = self._source.files[index]
        with opened(self._source, file, start.offset) as (stream, bytes_done):
            gathering = _Gathering(file.name, start, block_rows)
            if not start.offset:
                _refuse_other_json(_peek(stream), file)
            while (line := read_line(stream))[1]:
                raw, size = line
                if not gathering.offset:
                    raw = raw.removeprefix(_BOM)
                gathering.offset += size
                gathering.line += 1
                if raw.isspace() or not raw:
                    continue
                given, checked = self._row(raw, size, gathering.line)
                if gathering.add(gathering.line, given, checked):
                    yield gathering.take(bytes_done)
            if gathering.given:
                yield gathering.take(bytes_done)

    def _row(self, raw: bytes, size: int, line: int) -> tuple[Any, Checked]:
        if size > MAX_ROW_BYTES:
            given: Any = None
            checked: Checked = Failure(_MALFORMED, f"Line {line}: {too_long(size)}.")
        else:
            given, checked = self._schema.check_json_line(raw)
        if given is None:
            given = raw.decode(errors="backslashreplace").rstrip("\r\n")
        return given, checked


@contextmanager
def opened(
    source: Source, file: InputFile, offset: int
) -> Iterator[tuple[BinaryIO, Callable[[int], int]]]:
    """A file as a stream from `offset` on, and what tells the bytes of it that are done there.

    Raises:
        InputUnreadable: If it cannot be opened, or reading fails inside the block.
    """
    try:
        with source.filesystem.open_input_file(file.path) as raw:
            if file.compression is None:
                raw.seek(offset)
                yield io.BufferedReader(raw, 1 << 20), lambda at: at
                return
            unpacked = pa.CompressedInputStream(raw, file.compression)
            stream = io.BufferedReader(unpacked, 1 << 20)
            while offset > 0:  # what is packed cannot be jumped over
                offset -= len(stream.read(min(offset, 1 << 20)) or b" " * offset)
            yield stream, lambda _at: raw.tell()
    except (OSError, pa.ArrowException) as error:
        raise InputUnreadable(f"{file.name} cannot be read: {error}") from error


def _peek(stream: Any) -> bytes:
    head: bytes = stream.peek(64)
    return head


def _refuse_utf16(head: bytes, file: InputFile) -> None:
    if head.startswith(_UTF16):
        raise InputUnreadable(f"{file.name} is written in UTF-16. Save it as UTF-8.")


def _refuse_other_json(head: bytes, file: InputFile) -> None:
    _refuse_utf16(head, file)
    if file.suffix == ".json" and head.removeprefix(_BOM).lstrip().startswith(b"["):
        raise InputUnreadable(
            f"{file.name} is one JSON array; Salver reads JSON Lines, one object a line. "
            "Convert it, for example with: jq -c '.[]'"
        )
