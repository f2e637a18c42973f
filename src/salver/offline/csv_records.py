"""Records of a CSV file (RFC 4180), one bad record costing no other.

A record may hold line ends between quotes, so one stray quote would swallow the lines after it.
Here a record that is malformed ends with its first line, and reading goes on at the next. It
does not know columns nor schemas.
"""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_ROW_BYTES = 16 << 20  # of one line or record; more is refused, so that memory stays bounded
SHOWN_BYTES = 1000  # of a line that is refused for its length


class Line(NamedTuple):
    """One physical line: its text, its bytes in the file, and why it cannot be used, if so."""

    text: str
    size: int
    problem: str | None = None


class Record(NamedTuple):
    """One record.

    Attributes:
        line: Number of its first line, from 1.
        cells: Its cells; empty for a blank line. Null if it could not be taken apart.
        problem: Why it cannot be used, or null.
        text: Its first line, if it could not be taken apart.
        size: Its bytes in the file.
    """

    line: int
    cells: list[str] | None
    problem: str | None
    text: str
    size: int


def allow_long_cells() -> None:
    """Lifts the csv module's limit of 131,072 characters a cell, which holds for the process.

    Records are bounded by `MAX_ROW_BYTES` here.
    """
    csv.field_size_limit(sys.maxsize)


def read_line(stream: BinaryIO) -> tuple[bytes, int]:
    """The next line, its end included, and its size in the file.

    A line above `MAX_ROW_BYTES` is cut after `SHOWN_BYTES`; at the end of the file the size is 0.
    """
    raw = stream.readline(MAX_ROW_BYTES + 1)
    size = len(raw)
    if size <= MAX_ROW_BYTES:
        return raw, size
    rest = raw
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(1 << 20)
        size += len(rest)
    return raw[:SHOWN_BYTES], size


def too_long(size: int) -> str:
    """Why a line of this size is refused."""
    return f"it has {size:,} bytes; at most {MAX_ROW_BYTES:,} are read"


def _decoded(raw: bytes, size: int) -> Line:
    try:
        return Line(raw.decode(), size)
    except UnicodeDecodeError as error:
        text = raw.decode(errors="backslashreplace")
        return Line(text, size, f"byte {error.start + 1} is no valid UTF-8")


class Records:
    """Iterates over the records of a stream.

    Args:
        stream: Positioned at the start of a record.
        delimiter: One character.
        line: Number of the first line.
    """

    def __init__(self, stream: BinaryIO, delimiter: str, line: int = 1) -> None:
        allow_long_cells()
        self._lines = _Lines(stream)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self._line = line

    @property
    def next_line(self) -> int:
        """Number of the line after the last record."""
        return self._line

    def __iter__(self) -> Iterator[Record]:
        while (record := self._next()) is not None:
            yield record

    def _next(self) -> Record | None:
        lines = self._lines
        lines.begin()
        try:
            cells = next(self._reader)
        except StopIteration:
            return None
        except (csv.Error, _Unusable) as error:
            first = lines.give_back()
            self._line += 1
            reason = first.problem or _explained(error)
            return Record(self._line - 1, None, reason, first.text.rstrip("\r\n"), first.size)
        start, taken = self._line, lines.taken
        self._line += len(taken)
        problem = lines.problem and next(one.problem for one in taken if one.problem)
        return Record(start, cells, problem or None, "", lines.size)


class _Unusable(Exception):
    pass


class _Lines:
    """Hands lines to the parser, and takes back those that a malformed record swallowed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._again: deque[Line] = deque()
        self.begin()

    def begin(self) -> None:
        """Starts a record."""
        self.taken: list[Line] = []
        self.size = 0
        self.problem = False

    def give_back(self) -> Line:
        """Ends the record with its first line."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        return first

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else _decoded(*read_line(self._stream))
        text, size, problem = line
        if not size:
            raise StopIteration
        self.taken.append(line)
        self.size += size
        if problem:
            self.problem = True
        if self.size > MAX_ROW_BYTES:
            alone = len(self.taken) == 1
            raise _Unusable(too_long(size) if alone else "a quote is opened and never closed")
        return text


def _explained(error: Exception) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote is opened and never closed"
    if "expected after" in text:
        return "a quote stands inside a quoted cell, or is never closed; write it twice"
    if "new-line character" in text:
        return "a carriage return stands outside quotes"
    return text
