"""Named schemas of an OpenAPI document: added without clashing with those that are there.

A schema of the same name and content is shared; of the same name and other content, the new one
gets another name. This module does not know what the schemas describe.
"""

from __future__ import annotations

from typing import Any

from salver.schema import Schema

PREFIX = "#/components/schemas/"

Json = dict[str, Any]


class Components:
    """The `components` of one document.

    Args:
        components: Changed in place.
    """

    def __init__(self, components: Json) -> None:
        self._schemas: Json = components.setdefault("schemas", {})

    def add_schema(self, name: str, schema: Json) -> Json:
        """Adds a schema that refers to no other; returns a reference to it."""
        while self._schemas.get(name, schema) != schema:
            name += "_"
        self._schemas[name] = schema
        return {"$ref": PREFIX + name}

    def add_model(self, schema: Schema, owner: str) -> Json:
        """Adds a row's schema and all it refers to; returns a reference to it.

        Args:
            schema: Of the rows.
            owner: Put before names that are taken.
        """
        top = schema.json_schema()
        definitions: Json = top.pop("$defs", {})
        if set(top) == {"$ref"}:  # a model that contains itself is among its definitions
            name = top["$ref"].removeprefix(PREFIX)
        else:
            name = schema.model.__name__
            while name in definitions:
                name += "_"
            definitions[name] = top
        taken = {n for n in definitions if n in self._schemas}
        renamed: dict[str, str] = {}
        if any(self._schemas[n] != definitions[n] for n in taken):
            # All that are taken get a new name: two equal schemas may refer to unequal ones.
            renamed = {n: self._free(f"{owner}_{n}", definitions) for n in taken}
        for old, definition in definitions.items():
            self._schemas[renamed.get(old, old)] = _with_names(definition, renamed)
        return {"$ref": PREFIX + renamed.get(name, name)}

    def _free(self, name: str, others: Json) -> str:
        while name in self._schemas or name in others:
            name += "_"
        return name


def _with_names(value: Any, renamed: dict[str, str]) -> Any:
    """A copy of a schema in which references bear the new names."""
    if isinstance(value, dict):
        return {key: _with_names(item, renamed) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_names(item, renamed) for item in value]
    if isinstance(value, str) and value.startswith(PREFIX):
        old = value.removeprefix(PREFIX)
        return PREFIX + renamed.get(old, old)
    return value
