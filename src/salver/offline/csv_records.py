"""Records of a CSV file (RFC 4180), one bad record costing no other.

A record may hold line ends between quotes, so one stray quote would swallow the lines after it.
Here a record that is malformed ends with its first line, and reading goes on at the next. It
does not know columns nor schemas.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_ROW_BYTES = 16 << 20  # of one line or record; more is refused, so that memory stays bounded
SHOWN_CHARACTERS = 1000  # of a line that is refused for its length


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line: its text, its bytes in the file, and why it cannot be used, if so."""

    text: str
    size: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
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


def read_line(stream: BinaryIO) -> Line | None:
    """The next line, its end included; null at the end of the file."""
    raw = stream.readline(MAX_ROW_BYTES + 1)
    if not raw:
        return None
    if len(raw) > MAX_ROW_BYTES:
        size, rest = len(raw), raw
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 20)
            size += len(rest)
        shown = raw[: 4 * SHOWN_CHARACTERS].decode(errors="replace")[:SHOWN_CHARACTERS]
        limit = f"the line has {size} bytes; at most {MAX_ROW_BYTES} are read"
        return Line(shown + "…", size, limit)
    try:
        return Line(raw.decode(), len(raw))
    except UnicodeDecodeError as error:
        text = raw.decode(errors="backslashreplace")
        return Line(text, len(raw), f"byte {error.start + 1} of the line is no valid UTF-8")


class Records:
    """Iterates over the records of a stream.

    Args:
        stream: Positioned at the start of a record.
        delimiter: One character.
        line: Number of the first line.
    """

    def __init__(self, stream: BinaryIO, delimiter: str, line: int = 1) -> None:
        # The module's limit is the process's; it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
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
            problem = first.problem or _explained(error)
            self._line += 1
            return Record(self._line - 1, None, problem, first.text.rstrip("\r\n"), first.size)
        start, taken = self._line, lines.taken
        self._line += len(taken)
        problem = next((one.problem for one in taken if one.problem), None)
        return Record(start, cells, problem, "", sum(one.size for one in taken))


class _Unusable(Exception):
    pass


class _Lines:
    """Hands lines to the parser, and takes back those that a malformed record swallowed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []
        self._size = 0

    def begin(self) -> None:
        self.taken = []
        self._size = 0

    def give_back(self) -> Line:
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        return first

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else read_line(self._stream)
        if line is None:
            raise StopIteration
        self.taken.append(line)
        self._size += line.size
        if self._size > MAX_ROW_BYTES:
            raise _Unusable(f"a quote is not closed within {MAX_ROW_BYTES} bytes")
        return line.text


def _explained(error: Exception) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote is opened and never closed"
    if "expected after" in text:
        return "a quote stands inside a quoted cell, or is never closed; write it twice"
    if "new-line character" in text:
        return "a carriage return stands outside quotes"
    return text
