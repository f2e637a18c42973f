"""From a field of a pydantic model to a column: its dtype, and the plain values it may hold.

It does not know rows, bodies or files, nor who refuses a value that no column can hold.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
from pydantic import AliasChoices, AliasPath, EncodedBytes, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from salver.types import Dtype, Field

MAX_DEPTH = 64  # levels of nesting in one row
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
NOT_JSON = "Input should hold JSON values in valid Unicode"

_DTYPES: tuple[tuple[type, Dtype], ...] = (
    (bool, "bool"),  # before int, of which it is a subclass
    (str, "string"),
    (int, "int64"),
    (float, "float64"),
)
_KINDS: dict[Dtype, type] = {dtype: kind for kind, dtype in _DTYPES}


class Unfit(Exception):
    """Values that no column can hold.

    Attributes:
        problems: One `{"path": [...], "message": str, "type": str}` per value.
    """

    def __init__(self, path: list[str | int], message: str) -> None:
        super().__init__(message)
        self.problems: list[dict[str, Any]] = [{"path": path, "message": message, "type": "range"}]


def field_of(name: str, info: FieldInfo) -> Field:
    """The column of a field of a model; a default of None makes it nullable too."""
    inner, nullable = _unwrap(info.annotation)
    members = _members(inner)
    if members:
        kinds = {type(m) for m in members}
        nullable = nullable or NoneType in kinds
        kinds.discard(NoneType)
        inner = kinds.pop() if len(kinds) == 1 else object
    dtypes = (d for kind, d in _DTYPES if isinstance(inner, type) and issubclass(inner, kind))
    return Field(name, next(dtypes, "object"), nullable or info.default is None)


def spellings_of(name: str, info: FieldInfo, by_name: bool) -> tuple[str, ...]:
    """The keys under which a row may hold a field, the usual one first."""
    alias = info.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
    keys = [str(c.path[0]) if isinstance(c, AliasPath) else c for c in choices]
    return tuple(dict.fromkeys([*keys, name] if by_name else keys))


def extractor(field: Field, key: str, annotation: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Takes one field's value from the attributes of a validated model, as a plain value.

    Args:
        field: The column.
        key: What the field is called in a row, for the path of a problem.
        annotation: Its type.

    Returns:
        A function that raises `Unfit` for a value that the column cannot hold.
    """
    name = field.name

    def plain(values: Mapping[str, Any]) -> Any:
        value = values[name]
        wrong = fault(value)
        if wrong is not None:
            raise Unfit([key], wrong)
        return value

    if field.dtype != "object" and not _members(_unwrap(annotation)[0]):
        return plain

    encoded = _is_base64(annotation)

    def dumped(values: Mapping[str, Any]) -> Any:
        try:
            value = values[name]
            if encoded and isinstance(value, bytes):
                return base64.b64encode(value).decode()
            value = _as_json(value)
        except ValueError:  # pydantic's, for what JSON does not know and for endless nesting
            raise Unfit([key], NOT_JSON) from None
        return plain({name: value})

    return dumped


def text_reader(field: Field, annotation: Any) -> Callable[[Any], Any]:
    """Reads one field's value from its text in a CSV file.

    Returns:
        A function that gives a JSON value, or the text as it is if the field cannot take it.
    """
    if field.dtype == "string":
        return lambda text: text
    adapter: TypeAdapter[Any] = TypeAdapter(_KINDS.get(field.dtype, annotation))

    def read(text: Any) -> Any:
        try:
            return _as_json(adapter.validate_strings(text))
        except ValueError:
            return _nested(text)

    return read


def _nested(text: Any) -> Any:
    """A list or an object, which stands in a cell as JSON; else the text as it is."""
    if isinstance(text, str) and text[:1] in ("[", "{"):
        with contextlib.suppress(ValueError):
            return orjson.loads(text)
    return text  # whoever checks the row says what is wrong with it


def fault(value: Any, depth: int = 1) -> str | None:
    """Why no column can hold `value`; null for a JSON value within the bounds."""
    if isinstance(value, str):
        return None if value.isascii() or _is_unicode(value) else NOT_JSON
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if INT64_MIN <= value <= INT64_MAX else "Input should fit a 64-bit integer"
    if isinstance(value, float):
        return None if math.isfinite(value) else "Input should be a finite number"
    if not isinstance(value, list | dict):
        return NOT_JSON
    if depth > MAX_DEPTH:
        return f"Input should be nested at most {MAX_DEPTH} levels deep"
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return next(filter(None, (fault(part, depth + 1) for part in parts)), None)


def _as_json(value: Any) -> Any:
    # NaN would become null in a field that takes anything.
    return to_jsonable_python(value, by_alias=False, inf_nan_mode="constants")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _members(kind: Any) -> list[Any]:
    """The values that a literal or an enum lists; none for any other type."""
    if get_origin(kind) is Literal:
        return [m.value if isinstance(m, Enum) else m for m in get_args(kind)]
    return [m.value for m in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _is_base64(annotation: Any) -> bool:
    """Whether a type is `Base64Bytes`, whose bytes stand in JSON as base64; optional ones too."""
    if get_origin(annotation) is Annotated:
        return any(isinstance(m, EncodedBytes) for m in get_args(annotation)[1:])
    return any(map(_is_base64, get_args(annotation)))


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """The type within `Annotated` and `Optional`, and whether it is optional."""
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [a for a in get_args(annotation) if a is not NoneType]
        nullable = len(members) < len(get_args(annotation))
        return (_unwrap(members[0])[0] if len(members) == 1 else object), nullable
    return annotation, False
