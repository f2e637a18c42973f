"""JSON Schema of values that were seen: the types of results, told by executed examples.

A model has no declared output, so its examples speak for it: what all of them have is required,
what some have is optional, and more is allowed. This module does not know what a value means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def infer(values: Sequence[Any]) -> dict[str, Any]:
    """The narrowest schema, in these terms, that admits each of `values` (plain JSON values).

    Returns:
        JSON Schema; admits anything when there are no values.
    """
    types = {_type(value) for value in values}
    if "number" in types:
        types.discard("integer")
    schema: dict[str, Any] = {}
    if types:
        schema["type"] = types.pop() if len(types) == 1 else sorted(types)
    mappings = [value for value in values if isinstance(value, dict)]
    if mappings:
        names = list(dict.fromkeys(name for mapping in mappings for name in mapping))
        schema["properties"] = {
            name: infer([m[name] for m in mappings if name in m]) for name in names
        }
        required = [name for name in names if all(name in m for m in mappings)]
        if required:
            schema["required"] = required
    lists = [value for value in values if isinstance(value, list)]
    if lists:
        schema["items"] = infer([item for items in lists for item in items])
    return schema


def _type(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in _TYPES:
        if isinstance(value, kind):
            return name
    raise TypeError(f"{type(value).__name__} is no JSON value")


_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),  # before int, of which it is a subclass
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)
