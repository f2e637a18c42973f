"""Rows to try a replica with: its golden examples, or rows made up from its input model.

Made-up rows have the shape of real ones (texts of about thirty words, numbers, the first member
of an enum), nothing more. This module does not know what they are tried for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from salver.schema import Schema
from salver.types import Batch, Row

TEXT_WORDS = 30
MAX_DEPTH = 4  # of nested models; one that holds itself has no end
MAX_LENGTH = 10_000  # of a list or a text; a model that asks for more gets no made-up rows
_TEXT = (
    "the model reads a text about images and sound that people write every day and says which of "
    "several known topics it belongs to with code examples results figures tables and a short "
    "summary for readers who want to learn more"
)
_WORDS = _TEXT.split()
_FORMATS = {
    "date": "2024-05-17",
    "date-time": "2024-05-17T09:30:00Z",
    "time": "09:30:00Z",
    "duration": "P1D",
    "uuid": "6f1d3f0e-7a55-4a37-9b40-6c1f6f4c7a11",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def sample_rows(schema: Schema, examples: Sequence[Row], n: int) -> Batch | None:
    """A batch of `n` rows that the schema accepts.

    Args:
        schema: Of the rows.
        examples: Rows to repeat; without any, rows are made up.
        n: How many.

    Returns:
        The rows, or null if none could be made that fits (a pattern, a rule of the user's own).
    """
    for rows in (examples, _made_up(schema, n, False), _made_up(schema, n, True)):
        passed = schema.check_rows(rows).batch if rows else None
        if passed is not None and len(passed) == len(rows):
            return passed.take(i % len(passed) for i in range(n))
    return None


def _made_up(schema: Schema, n: int, required_only: bool) -> list[Row]:
    described = schema.json_schema()
    return [_Maker(described, i, required_only).value(described, 0) for i in range(n)]


class _Maker:
    """Makes one value for a JSON Schema.

    Args:
        root: The schema with its `$defs`.
        number: Of the row; it turns the words, so that no two texts are the same.
        required_only: Whether to leave out what may be absent.
    """

    def __init__(self, root: Mapping[str, Any], number: int, required_only: bool) -> None:
        self._definitions = root.get("$defs", {})
        self._number = number
        self._required_only = required_only

    def value(self, described: Mapping[str, Any], depth: int) -> Any:
        """A value that fits, or null where none is known."""
        if "$ref" in described:
            described = self._definitions.get(described["$ref"].rpartition("/")[2], {})
        for name in ("examples", "enum"):
            if described.get(name):
                return described[name][0]
        if "const" in described:
            return described["const"]
        members = [m for key in ("anyOf", "oneOf", "allOf") for m in described.get(key, ())]
        if members:
            return self.value(next((m for m in members if m.get("type") != "null"), {}), depth)
        if described.get("type") in ("object", "array"):
            return self._nested(described, depth)
        return self._plain(described)

    def _plain(self, described: Mapping[str, Any]) -> Any:
        kind = described.get("type")
        if kind == "string":
            return self._text(described)
        if described.get("default") is not None:
            return described["default"]
        if kind == "boolean":
            return True
        return _number(described) if kind in ("integer", "number") else None

    def _nested(self, described: Mapping[str, Any], depth: int) -> Any:
        if depth > MAX_DEPTH:
            return None
        if described["type"] == "array":
            parts = described.get("prefixItems")
            if parts is None:
                few = described.get("minItems", int(depth < MAX_DEPTH))
                parts = [described.get("items", {})] * min(few, MAX_LENGTH)
            return [self.value(part, depth + 1) for part in parts]
        required = described.get("required", ())
        return {
            name: self.value(part, depth + 1)
            for name, part in described.get("properties", {}).items()
            if name in required or not (depth or self._required_only)
        }

    def _text(self, described: Mapping[str, Any]) -> str:
        if described.get("format") in _FORMATS:
            return _FORMATS[described["format"]]
        if "pattern" in described and described.get("default"):
            return str(described["default"])
        turn = self._number % len(_WORDS)
        text = " ".join([*_WORDS[turn:], *_WORDS[:turn]][:TEXT_WORDS])
        text = text.ljust(min(described.get("minLength", 0), MAX_LENGTH), "x")
        return text[: described.get("maxLength", len(text))]


def _number(described: Mapping[str, Any]) -> float | None:
    """A number within the bounds, 1 if that is one; null if none of a few candidates fits."""
    step = described.get("multipleOf", 1)
    names = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    edges = [described[name] for name in names if name in described]
    near = [e + by for by in (0, step, -step) for e in edges]
    if "multipleOf" in described:
        near = [round(e / step) * step for e in near]
    middle = [sum(edges) / len(edges)] if edges else []
    kind = int if described["type"] == "integer" else float
    fits = (c for c in (step, *near, *middle) if kind(c) == c and _is_within(c, described))
    found = next(fits, None)
    return None if found is None else kind(found)


def _is_within(number: float, described: Mapping[str, Any]) -> bool:
    low, high = described.get("minimum", number), described.get("maximum", number)
    above = described.get("exclusiveMinimum", number - 1)
    below = described.get("exclusiveMaximum", number + 1)
    return bool(low <= number <= high and above < number < below)
