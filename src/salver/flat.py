"""Rows of flat models, read without the validator.

Most input models are a few texts and numbers without a rule of their own. For these a look at the
type of each value says all that the compiled validator would, in a fifth of its time. What is not
accepted here is no error yet: the validator decides, and finds the words. This module does not
know bodies, files or batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from salver.columns import INT64_MAX, INT64_MIN, fault

FlatReader = Callable[[Any], "tuple[Any, ...] | None"]

_MISSING: Any = object()
_KINDS: Mapping[Any, type] = {"str": str, "int": int, "float": float, "bool": bool}
# Whatever else stands in pydantic's description of a model is a rule that is not known here.
_OF_MODEL = {"type", "cls", "schema", "custom_init", "root_model", "config", "ref", "metadata"}
_OF_FIELDS = {"type", "fields", "model_name", "computed_fields"}


def flat_reader(model: type[BaseModel]) -> FlatReader | None:
    """A function from a row as `orjson.loads` gives it to the values of its fields, in order.

    It returns null for a row that it does not accept, which the model may accept nevertheless;
    what it accepts, the model accepts in strict mode with the same values.

    Returns:
        Null if `model` has anything but texts, integers, numbers and booleans (or null), or a
        rule beyond their types.
    """
    described: Any = model.__pydantic_core_schema__
    if not isinstance(described, Mapping) or not _is_plain_model(described):
        return None
    fields = [_field(name, field) for name, field in described["schema"]["fields"].items()]
    plain = [field for field in fields if field is not None]
    return _reader(plain) if len(plain) == len(fields) else None


_Plain = tuple[str, type, bool, Any]  # name, type, whether null is allowed, default


def _is_plain_model(described: Mapping[str, Any]) -> bool:
    fields = described.get("schema", {})
    return (
        described["type"] == "model"
        and described.keys() <= _OF_MODEL
        and not described.get("custom_init")
        and not described.get("root_model")
        and described.get("config", {}).keys() <= {"title"}
        and fields.get("type") == "model-fields"
        and fields.keys() <= _OF_FIELDS
    )


def _field(name: str, described: Mapping[str, Any]) -> _Plain | None:
    if described.keys() - {"type", "schema", "metadata"}:
        return None
    kind, default, nullable = described["schema"], _MISSING, False
    if kind["type"] == "default" and kind.keys() == {"type", "schema", "default"}:
        kind, default = kind["schema"], kind["default"]
    if kind["type"] == "nullable" and kind.keys() == {"type", "schema"}:
        kind, nullable = kind["schema"], True
    is_known = kind.keys() == {"type"} and kind["type"] in _KINDS
    if not is_known or (default is not _MISSING and not _is_plain(default)):
        return None
    return name, _KINDS[kind["type"]], nullable, default


def _is_plain(default: Any) -> bool:
    return type(default) in (str, int, float, bool, type(None)) and fault(default) is None


def _fits(value: Any) -> bool:
    return bool(INT64_MIN <= value <= INT64_MAX)


def _reader(fields: list[_Plain]) -> FlatReader:
    def read(data: Any) -> tuple[Any, ...] | None:
        if type(data) is not dict:
            return None
        values = []
        given = 0
        for name, kind, nullable, default in fields:
            value: Any = data.get(name, _MISSING)
            if value is _MISSING:
                if default is _MISSING:
                    return None
                values.append(default)
                continue
            given += 1
            if type(value) is kind:
                if kind is int and not _fits(value):
                    return None
            elif kind is float and type(value) is int:
                value = float(value)
            elif value is not None or not nullable:
                return None
            values.append(value)
        # A key that the model does not know may hold anything.
        return tuple(values) if given == len(data) else None

    return read
