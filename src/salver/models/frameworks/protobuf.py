"""The wire format of protobuf: just enough to look into graphs that their library does not show.

Source: the encoding page of Protocol Buffers. Messages are views, so that gigabytes of weights are
passed over without a copy. It does not know any schema.
"""

from __future__ import annotations

from collections.abc import Iterator

_WIDTHS = {1: 8, 5: 4}


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; numbers of a fixed width are passed over.

    Raises:
        ValueError: For what is no message, or has groups, which no model has.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at, 5)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at, 10)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(message, at, 5)
        elif kind in _WIDTHS:
            size = _WIDTHS[kind]
        else:
            raise ValueError(f"a field of the kind {kind}")
        if at + size > len(message):
            raise ValueError("it ends in the middle of a field")
        if kind == 2:
            yield number, message[at : at + size]
        at += size


def inner(message: memoryview, *path: int) -> Iterator[memoryview]:
    """Every value, of messages and texts, at a path of field numbers; raises as `fields`."""
    for number, value in fields(message):
        if number == path[0] and isinstance(value, memoryview):
            if len(path) == 1:
                yield value
            else:
                yield from inner(value, *path[1:])


def integers(message: memoryview, field: int) -> Iterator[int]:
    """Repeated integers, packed or not; those below zero are in two's complement."""
    for number, value in fields(message):
        if number == field:
            given = [value] if isinstance(value, int) else _packed(value)
            yield from (one - (1 << 64) if one >> 63 else one for one in given)


def _packed(value: memoryview) -> Iterator[int]:
    at = 0
    while at < len(value):
        one, at = _varint(value, at, 10)
        yield one


def _varint(message: memoryview, at: int, longest: int) -> tuple[int, int]:
    value = 0
    for i in range(longest):
        if at + i >= len(message):
            raise ValueError("it ends in the middle of a number")
        value |= (message[at + i] & 127) << 7 * i
        if message[at + i] < 128:
            return value, at + i + 1
    raise ValueError("a number is too long")
