"""What a model takes: MLflow's signatures, the row model made from one, and typed arrays.

A signature is kept as MLflow writes it, whether MLflow or a model's own file said it. From it come
the pydantic model that checks rows (so that HTTP, files and Python refuse the same ones), and the
arrays that the model was trained on: float32 where it wants float32, times as times. This module
does not know which framework a model is of, nor where its files lie.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    WithJsonSchema,
    create_model,
)
from pydantic_core import core_schema

from salver.errors import CheckpointError

Array = np.ndarray[Any, Any]
UNNAMED = "input"  # what the only column is called where the signature has no name for it
MAX_DEPTH = 16  # of nested types
MAX_COLUMNS = 10_000

_INTEGERS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
_FLOATS = {"float16", "float32", "float64"}
# MLflow's names of scalar types as numpy's.
_SCALARS = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
    "binary": "bytes",
    "datetime": "datetime64[us]",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One input: its name in a row, its type as MLflow writes it, and whether it must be there."""

    name: str
    type: Mapping[str, Any]
    required: bool = True

    @property
    def dtype(self) -> str | None:
        """numpy's name of the scalar type, or of the elements of a tensor; null for what nests."""
        spec = self.type.get("tensor-spec")
        if spec is not None:
            name = str(spec["dtype"])
            return "str" if name in ("str", "object") or name.startswith("<U") else name
        return _SCALARS.get(str(self.type["type"]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row's value; -1 where any length will do. Of a scalar: empty."""
        spec = self.type.get("tensor-spec")
        return () if spec is None else tuple(spec["shape"][1:])


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs of a model, in its own order."""

    columns: tuple[Column, ...]

    @staticmethod
    def load(data: Any, where: str) -> Signature:
        """Reads the `inputs` of an MLflow signature, parsed from JSON, and trusts no part of it.

        Raises:
            CheckpointError: For a type that is not known, or columns that cannot be told apart.
        """
        if not isinstance(data, list) or not data or len(data) > MAX_COLUMNS:
            raise CheckpointError(f"{where} names no inputs. {_LOG_AGAIN}")
        return Signature(_columns(data, where))

    def dump(self) -> list[dict[str, Any]]:
        """What `load` reads."""
        return [{**c.type, "name": c.name, "required": c.required} for c in self.columns]

    @property
    def attributes(self) -> tuple[str, ...]:
        """What the inputs are called in `row_model`, where they need not have names of Python."""
        return tuple(_attribute(column.name, i) for i, column in enumerate(self.columns))

    def row_model(self, name: str) -> type[BaseModel]:
        """The pydantic model of one row."""
        parts = [(c.name, _annotation(c.type, c.name), c.required) for c in self.columns]
        return _model(name, parts)

    def arrays(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The columns of a batch, by the names and in the dtypes that the model was trained on.

        Args:
            batch: Columns of rows that `row_model` has passed, by its attributes.

        Returns:
            Arrays of shape (n,), or (n, ...) for tensors. A missing number is NaN, in a float64
            column if it was to be an integer; a missing time is NaT; other missing values are None.
        """
        pairs = zip(self.columns, self.attributes, strict=True)
        return {column.name: _typed(column, batch[name]) for column, name in pairs}


_LOG_AGAIN = (
    "Log the model with a signature: mlflow.<flavor>.log_model(..., "
    "signature=infer_signature(inputs, outputs)), or with input_example=inputs."
)


def no_signature(where: str) -> CheckpointError:
    """The error for a model that does not say what it takes."""
    return CheckpointError(f"{where} has no signature, so its inputs are not known. {_LOG_AGAIN}")


def tensor(dtype: str, shape: Iterable[int]) -> dict[str, Any]:
    """A tensor's type as MLflow writes it; the first of `shape` counts rows."""
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(shape)}}


def scalar(dtype: str) -> dict[str, Any]:
    """A scalar type as MLflow writes it, from numpy's name of it."""
    names = {numpy_name: name for name, numpy_name in _SCALARS.items()}
    known = {"object": "string", "int16": "integer", "int8": "integer", "uint8": "integer"}
    return {"type": known.get(dtype) or names.get(dtype) or "double"}


def _columns(data: list[Any], where: str) -> tuple[Column, ...]:
    columns = []
    for raw in data:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str):
            raise CheckpointError(f"{where} describes an input as {raw!r}. {_LOG_AGAIN}")
        name = raw.get("name")
        if name is None and len(data) > 1:
            raise CheckpointError(f"{where} has {len(data)} inputs without names. {_LOG_AGAIN}")
        kind = {k: v for k, v in raw.items() if k not in ("name", "required", "optional")}
        column = Column(UNNAMED if name is None else str(name), kind, raw.get("required", True))
        _check(column, where)
        columns.append(column)
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise CheckpointError(f"{where} has two inputs of one name: {names}. {_LOG_AGAIN}")
    return tuple(columns)


def _check(column: Column, where: str) -> None:
    try:
        _annotation(column.type, column.name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{where}: the input {column.name!r} has the type {dict(column.type)!r}, which Salver "
            f"cannot read ({error})."
        ) from error


def _attribute(name: str, i: int) -> str:
    """What the field is called in Python, where its name would be in pydantic's way."""
    plain = name.isidentifier() and not name.startswith("_") and not hasattr(BaseModel, name)
    return name if plain and not name.startswith("column_") else f"column_{i}"


def _whole(value: Any) -> Any:
    # Tables hold integers as floats once one is missing; online the same must hold.
    return int(value) if type(value) is float and value.is_integer() else value


def _as_base64(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _checked_base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"should be base64: {error}") from None
    return value


def _as_time(value: Any) -> Any:
    # What comes out of here counts as Python's own: in strict mode, texts are no times then.
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    is_day = isinstance(value, date) and not isinstance(value, datetime)
    return datetime.combine(value, time.min) if is_day else value


def _as_mapping(value: Any) -> Any:
    """Arrow gives its maps as pairs."""
    is_pairs = isinstance(value, list) and all(type(p) is tuple and len(p) == 2 for p in value)
    return dict(value) if is_pairs else value


class _Time:
    """A datetime, by ISO 8601 where it is a text. A class, for of `Annotated` CSV sees the half."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_before_validator_function(_as_time, handler(datetime))


_BINARY = Annotated[
    str,
    BeforeValidator(_as_base64),
    AfterValidator(_checked_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "examples": ["c2FsdmVy"]}),
]


def _number(dtype: str) -> Any:
    """The annotation of a number within the range of its dtype."""
    if dtype in _INTEGERS:
        info = np.iinfo(dtype)
        if dtype == "int64":
            return Annotated[int, BeforeValidator(_whole)]
        high = min(int(info.max), 2**63 - 1)
        return Annotated[int, BeforeValidator(_whole), Field(ge=int(info.min), le=high)]
    if dtype in ("float16", "float32"):
        edge = float(np.finfo(dtype).max)
        return Annotated[float, Field(ge=-edge, le=edge)]
    return float


def _annotation(kind: Mapping[str, Any], name: str, depth: int = 0) -> Any:
    """The annotation for a type as MLflow writes it.

    Raises:
        ValueError: If the type is not known; KeyError and others if it is not written so.
    """
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deep")
    which = kind["type"]
    if which == "tensor":
        return _tensor_annotation(kind["tensor-spec"])
    if which == "array":
        return list[_annotation(kind["items"], name, depth + 1)]  # type: ignore[misc]
    if which == "map":
        of: Any = dict[str, _annotation(kind["values"], name, depth + 1)]  # type: ignore[misc]
        return Annotated[of, BeforeValidator(_as_mapping)]
    if which == "object":
        return _nested(kind["properties"], name, depth)
    if which == "any":
        return Any
    return _scalar_annotation(_SCALARS.get(which, ""), which)


def _nested(properties: Mapping[str, Any], name: str, depth: int) -> Any:
    parts = [
        (part, _annotation(kind, part, depth + 1), kind.get("required", True))
        for part, kind in properties.items()
    ]
    return _model(f"{name}_{depth}", parts)


def _model(name: str, parts: Iterable[tuple[str, Any, bool]]) -> type[BaseModel]:
    """The pydantic model of parts: name, annotation, and whether they must be there."""
    fields: dict[str, Any] = {}
    for i, (part, kind, required) in enumerate(parts):
        attribute = _attribute(part, i)
        alias = None if attribute == part else part
        if required:
            fields[attribute] = (kind, Field(alias=alias))
        else:
            fields[attribute] = (kind | None, Field(default=None, alias=alias))
    return create_model(name, __config__=ConfigDict(protected_namespaces=()), **fields)


def _scalar_annotation(dtype: str, given: str) -> Any:
    if dtype in _INTEGERS | _FLOATS:
        return _number(dtype)
    known: dict[str, Any] = {
        "bool": bool,
        "str": str,
        "bytes": _BINARY,
        "datetime64[us]": _Time,
    }
    if dtype not in known:
        raise ValueError(f"{given!r} is no known type")
    return known[dtype]


def _tensor_annotation(spec: Mapping[str, Any]) -> Any:
    given, shape = str(spec["dtype"]), spec["shape"]
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise ValueError(f"its shape is {shape!r}")
    dtype = "str" if given in ("str", "object") or given.startswith("<U") else given
    kind = _scalar_annotation(dtype, given)
    for size in reversed(shape[1:]):
        kind = list[kind]  # type: ignore[valid-type]
        if size >= 0:
            kind = Annotated[kind, Field(min_length=size, max_length=size)]
    return kind


def _typed(column: Column, values: Array) -> Array:
    dtype = column.dtype
    if dtype is None:
        decode = _decoder(column.type)
        return values if decode is None else _each(decode, values)
    missing = [value is None for value in values] if values.dtype == object else []
    if any(missing):
        return _with_missing(dtype, values)
    if dtype in ("bytes", "datetime64[us]") and not column.shape:
        return _converted(dtype, values)
    if dtype == "str":
        return values if not column.shape else _stacked(values, "object")
    if not column.shape:
        return values.astype(dtype)
    return _stacked(values, dtype)


def _each(convert: Callable[[Any], Any], values: Array) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = [None if v is None else convert(v) for v in values]
    return array


def _decoder(kind: Mapping[str, Any]) -> Callable[[Any], Any] | None:
    """What makes a nested value of its JSON: bytes, times, and parts by the model's own names.

    Returns:
        Null if JSON's value is the value.
    """
    which = kind["type"]
    if which == "binary":
        return base64.b64decode
    if which == "datetime":
        return lambda text: _utc(datetime.fromisoformat(text))
    if which == "array":
        item = _decoder(kind["items"])
        return None if item is None else lambda values: [item(v) for v in values]
    if which == "map":
        of = _decoder(kind["values"])
        return None if of is None else lambda value: {k: of(v) for k, v in value.items()}
    return _object_decoder(kind["properties"]) if which == "object" else None


def _object_decoder(properties: Mapping[str, Any]) -> Callable[[Any], Any] | None:
    parts = [
        (part, _attribute(part, i), _decoder(kind), kind.get("required", True))
        for i, (part, kind) in enumerate(properties.items())
    ]
    if all(part == name and of is None and needed for part, name, of, needed in parts):
        return None

    def decode(value: Mapping[str, Any]) -> dict[str, Any]:
        decoded = {}
        for part, name, of, needed in parts:
            given = value.get(name, value.get(part))  # by the latter, in a row model of the user's
            # A part that is not given is left out, so that the model's own default stands.
            if given is not None or needed:
                decoded[part] = given if of is None else of(given)
        return decoded

    return decode


def _with_missing(dtype: str, values: Array) -> Array:
    if dtype in _INTEGERS | _FLOATS:
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    if dtype in ("bytes", "datetime64[us]"):
        return _converted(dtype, values)
    return values


def _converted(dtype: str, values: Array) -> Array:
    if dtype == "bytes":
        return _each(base64.b64decode, values)
    times = [None if v is None else _utc(datetime.fromisoformat(v)) for v in values]
    return np.array(times, dtype="datetime64[us]")


def _utc(moment: datetime) -> datetime:
    """numpy's times have no zone: those that have one are given in UTC."""
    offset = moment.utcoffset()
    return moment if offset is None else moment.replace(tzinfo=None) - offset


def _stacked(values: Array, dtype: str) -> Array:
    """Nested lists as one array; lists of different lengths as an array of arrays."""
    try:
        return np.array(list(values), dtype=dtype)
    except ValueError:
        return _each(lambda v: np.array(v, dtype=dtype), values)
