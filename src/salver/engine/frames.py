"""What crosses the socket between the engine and a child process.

A frame is four bytes of length (unsigned, big-endian) and that many bytes of msgpack. Rows and
results are plain values; nothing is ever unpickled. Frames do not know what they are for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from salver.types import Batch, ClassProbabilities, Failure, Field, Outcomes

HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 1 << 30
_BIG_INTEGER = 1


class BadFrame(Exception):
    """Bytes that no replica sends."""


def pack(message: Any, most: int | None = None) -> bytes:
    """A message (plain values) as one frame.

    Args:
        message: What is sent.
        most: Bytes of the frame; null for as many as the receiver takes.

    Raises:
        BadFrame: If it is larger.
    """
    body, most = _packed(message), MAX_FRAME_BYTES if most is None else most
    if len(body) > most:
        raise BadFrame(f"a frame of {len(body)} bytes; the most is {most}")
    return HEADER.pack(len(body)) + body


def pack_outcomes(number: int, outcomes: Outcomes, most: int = MAX_FRAME_BYTES) -> bytes:
    """The answer to a batch as one frame; rows whose results are too large for it have failed.

    Args:
        number: Of the batch.
        outcomes: Of its rows.
        most: Bytes of the frame.
    """
    try:
        return pack([number, outcomes_as_message(outcomes)], most)
    except (BadFrame, ValueError):  # ValueError: a single value that msgpack cannot hold
        return pack([number, outcomes_as_message(_without_large_rows(outcomes, most))])


def _without_large_rows(outcomes: Outcomes, most: int) -> Outcomes:
    """The same with a failure for each row that takes more than its share of a frame."""
    share = most // (2 * outcomes.size)
    large = {
        i
        for column in outcomes.columns.values()
        for i, value in enumerate(column)
        if _size(value) > share // len(outcomes.columns)
    }
    failure = Failure(
        "bad_model_output",
        f"The model's output is not usable: the result of this row is larger than {share} bytes.",
    )
    columns = {
        name: [None if i in large else value for i, value in enumerate(column)]
        for name, column in outcomes.columns.items()
    }
    failures = {**dict.fromkeys(large, failure), **outcomes.failures}
    return Outcomes(outcomes.size, columns, failures, outcomes.abstained - large, outcomes.details)


def _size(value: Any) -> int:
    """Bytes that a value takes in a frame; more than any frame for what msgpack cannot hold."""
    try:
        return len(_packed(value))
    except ValueError:
        return MAX_FRAME_BYTES


def _packed(message: Any) -> bytes:
    body: bytes = msgpack.packb(
        message, use_bin_type=True, default=_extra, unicode_errors="surrogatepass"
    )
    return body


def unpack(body: bytes | memoryview) -> Any:
    """The message in the body of a frame."""
    return msgpack.unpackb(
        body,
        raw=False,
        strict_map_key=False,
        ext_hook=_from_extra,
        unicode_errors="surrogatepass",
    )


class FrameReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Any]:
        """Messages that `data` completes.

        Raises:
            BadFrame: If a length is out of bounds.
        """
        if not self._buffer and len(data) >= HEADER.size:
            # Nearly always one whole frame comes at a time, and need not be copied.
            end = self._end_of_frame(data)
            if end == len(data):
                yield unpack(memoryview(data)[HEADER.size :])
                return
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            end = self._end_of_frame(self._buffer)
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[HEADER.size : end])
            del self._buffer[:end]
            yield unpack(body)

    def _end_of_frame(self, data: bytes | memoryview | bytearray) -> int:
        (length,) = HEADER.unpack_from(data)
        if length > MAX_FRAME_BYTES:
            raise BadFrame(f"a frame announced {length} bytes; the most is {MAX_FRAME_BYTES}")
        return HEADER.size + int(length)


def fields_as_message(fields: tuple[Field, ...]) -> list[list[Any]]:
    """Field descriptions as plain values."""
    return [[f.name, f.dtype, f.nullable] for f in fields]


def batch_from_message(fields: tuple[Field, ...], rows: list[list[Any]]) -> Batch:
    """A batch on the other side; its rows passed the schema before they were sent."""
    return Batch(fields, [tuple(row) for row in rows])


def outcomes_as_message(outcomes: Outcomes) -> dict[str, Any]:
    """Outcomes as plain values; class names are sent once per batch, not once per row."""
    columns = {
        name: {"classes": column.classes, "values": column.values}
        if isinstance(column, ClassProbabilities)
        else list(column)
        for name, column in outcomes.columns.items()
    }
    failures = {i: [f.code, f.message, f.detail, f.path] for i, f in outcomes.failures.items()}
    return {
        "size": outcomes.size,
        "columns": columns,
        "failures": failures,
        "abstained": list(outcomes.abstained),
        "details": {name: list(column) for name, column in outcomes.details.items()},
    }


def outcomes_from_message(message: Mapping[str, Any]) -> Outcomes:
    """The inverse of `outcomes_as_message`."""
    columns = {
        name: ClassProbabilities(tuple(column["classes"]), column["values"])
        if isinstance(column, dict)
        else column
        for name, column in message["columns"].items()
    }
    failures = {
        i: Failure(code, text, detail, tuple(path))
        for i, (code, text, detail, path) in message["failures"].items()
    }
    abstained = frozenset(message["abstained"])
    return Outcomes(message["size"], columns, failures, abstained, message["details"])


def _extra(value: Any) -> Any:
    if isinstance(value, int):  # beyond 64 bits
        return msgpack.ExtType(_BIG_INTEGER, str(value).encode())
    raise TypeError(f"a {type(value).__name__} cannot be sent to a replica")


def _from_extra(code: int, data: bytes) -> Any:
    if code == _BIG_INTEGER:
        return int(data)
    raise BadFrame(f"extension type {code}")
