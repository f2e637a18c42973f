"""What a row must look like, and the only place where outside data becomes a `Batch`.

A schema is made from a pydantic model. Rows are checked strictly ("5" is no number) by one
compiled validator, whether they come as a request body, a line of a file or a Python object, so
that online and offline refuse the same rows. It does not know who sent a row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from salver.errors import ConfigError, InvalidInput, TooManyRows
from salver.types import Batch, Dtype, Failure, Field, Row

MAX_DEPTH = 64  # levels of nesting in one body
MAX_PROBLEMS = 100  # named in one answer
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """A request body that passed: its rows, and whether it was a list."""

    batch: Batch
    is_list: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows after the check.

    Attributes:
        batch: The rows that passed.
        positions: For each row of `batch`, its position among the rows given.
        rejected: Failure of each other position.
    """

    batch: Batch
    positions: list[int]
    rejected: dict[int, Failure]


class Schema:
    """Field names, types and constraints of the rows of one deployment.

    Args:
        model: The pydantic model of one row. Field types may be str, int, float, bool, optional
            or literal forms of these, enums, and anything pydantic writes as JSON (nested models,
            lists, dates), which reaches the model as plain JSON values.

    Raises:
        ConfigError: If `model` is no pydantic model, or has no fields.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ConfigError(
                f"input= was given {model!r}; it takes a pydantic model that describes one row, "
                "for example: class Project(BaseModel): title: str"
            )
        if not model.model_fields:
            raise ConfigError(
                f"The input model {model.__name__} has no fields. Declare at least one."
            )
        self.model = model
        self.fields = tuple(_field(n, info.annotation) for n, info in model.model_fields.items())
        self.required = tuple(n for n, info in model.model_fields.items() if info.is_required())
        self._names = {info.alias or n: n for n, info in model.model_fields.items()}
        self._one: TypeAdapter[BaseModel] = TypeAdapter(model)
        self._many: TypeAdapter[list[BaseModel]] = TypeAdapter(list[model])  # type: ignore[valid-type]
        self._extract = tuple(
            _extractor(f, info.annotation)
            for f, info in zip(self.fields, model.model_fields.values(), strict=True)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields as they stand in a row of input."""
        return tuple(self._names)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of one row."""
        return self.model.model_json_schema(ref_template="#/components/schemas/{model}")

    def parse_json(self, body: bytes, max_rows: int | None = None) -> ParsedBody:
        """Rows of a request body: one object, or a list of objects.

        Raises:
            InvalidInput: If the body is no JSON, or any row is refused; names every bad field.
            TooManyRows: If a list holds more than `max_rows`.
        """
        data = _load(body)
        is_list = isinstance(data, list)
        if is_list and max_rows is not None and len(data) > max_rows:
            raise TooManyRows(
                f"The list holds {len(data)} rows; one request may carry {max_rows}. Send several "
                "requests, or use `salver predict` for files."
            )
        if not is_list and not isinstance(data, dict):
            raise InvalidInput(
                f"The body is {_json_type(data)}; it must be one object or a list of objects.",
                [{"path": [], "message": "expected an object or a list", "type": "json_type"}],
            )
        adapter: TypeAdapter[Any] = self._many if is_list else self._one
        try:
            valid = adapter.validate_json(body, strict=True)
            rows = [self._row(one) for one in (valid if is_list else [valid])]
        except (ValidationError, _OutOfRange):
            raise self._refusal(data, is_list) from None
        return ParsedBody(Batch(self.fields, rows), is_list)

    def check_json_line(
        self, line: bytes
    ) -> tuple[dict[str, Any] | None, tuple[Any, ...] | Failure]:
        """One line of a JSON Lines file: the object as read, and its row or why it has none."""
        data: Any = None
        try:
            data = _load(line)
            if not isinstance(data, dict):
                raise InvalidInput(f"The line is {_json_type(data)}; it must be one object.")
            return data, self._row(self._one.validate_json(line, strict=True))
        except InvalidInput as error:
            return None, Failure(error.code, error.message)
        except ValidationError as error:
            return data, _failure(_problems(error))
        except _OutOfRange as error:
            return data, error.failure

    def check_rows(self, rows: Iterable[Row], *, text: bool = False) -> Checked:
        """Checks rows given as mappings; a refused row never hurts its neighbours.

        Args:
            rows: The rows; unknown keys are ignored unless the model forbids them.
            text: True when all values are texts, as in a CSV file: "5" is then a number, and an
                empty text is a missing value for every field that is no string.
        """
        given = list(rows)
        if not text:
            try:
                valid = self._many.validate_python(given, strict=True)
                batch = Batch(self.fields, [self._row(one) for one in valid])
                return Checked(batch, list(range(len(given))), {})
            except (ValidationError, _OutOfRange):
                pass  # some row is bad: go one by one to find which
        passed: list[tuple[Any, ...]] = []
        positions: list[int] = []
        rejected: dict[int, Failure] = {}
        for i, row in enumerate(given):
            result = self._check_one(row, text)
            if isinstance(result, Failure):
                rejected[i] = result
            else:
                passed.append(result)
                positions.append(i)
        return Checked(Batch(self.fields, passed), positions, rejected)

    def _check_one(self, row: Row, text: bool) -> tuple[Any, ...] | Failure:
        try:
            if text:
                return self._row(self._one.validate_strings(self._without_blanks(row), strict=True))
            return self._row(self._one.validate_python(row, strict=True))
        except ValidationError as error:
            return _failure(_problems(error))
        except _OutOfRange as error:
            return error.failure

    def _without_blanks(self, row: Row) -> dict[str, Any]:
        strings = {
            name for name, f in zip(self._names, self.fields, strict=True) if f.dtype == "string"
        }
        return {k: v for k, v in row.items() if k in self._names and (v != "" or k in strings)}

    def _row(self, one: BaseModel) -> tuple[Any, ...]:
        values = one.__dict__
        return tuple([extract(values) for extract in self._extract])

    def _refusal(self, data: Any, is_list: bool) -> InvalidInput:
        # Rows are looked at again one by one, so that every bad one is named, also those that
        # are valid JSON types but out of a column's range.
        problems: list[dict[str, Any]] = []
        bad: list[int] = []
        for i, row in enumerate(data if is_list else [data]):
            try:
                self._row(self._one.validate_json(orjson.dumps(row), strict=True))
            except ValidationError as error:
                bad.append(i)
                problems += _problems(error, (i,) if is_list else ())
            except _OutOfRange as error:
                bad.append(i)
                path = ([i] if is_list else []) + list(error.failure.path)
                problems.append({"path": path, "message": error.failure.message, "type": "range"})
            except TypeError:  # an integer above 64 bits cannot be written back
                bad.append(i)
                path = [i] if is_list else []
                problems.append({"path": path, "message": "a number is too large", "type": "range"})
        which = (
            f"{len(bad)} of {len(data)} rows were refused: {_some(bad)}."
            if is_list
            else "The row was refused."
        )
        hint = "Mend the fields named in `problems` and send it again; nothing was computed."
        return InvalidInput(f"{which} {hint}", problems[:MAX_PROBLEMS])


class _OutOfRange(Exception):
    def __init__(self, name: str, message: str) -> None:
        self.failure = Failure("invalid_input", message, path=(name,))


def _field(name: str, annotation: Any) -> Field:
    inner, nullable = _unwrap(annotation)
    dtype: Dtype = "object"
    if get_origin(inner) is Literal:
        kinds = {type(v) for v in get_args(inner)}
        inner = kinds.pop() if len(kinds) == 1 else object
    if isinstance(inner, type):
        if issubclass(inner, Enum):
            inner = type(next(iter(inner)).value)
        for kind, name_of_kind in _DTYPES:
            if issubclass(inner, kind):
                dtype = name_of_kind
                break
    return Field(name, dtype, nullable)


_DTYPES: tuple[tuple[type, Dtype], ...] = (
    (bool, "bool"),  # before int, of which it is a subclass
    (str, "string"),
    (int, "int64"),
    (float, "float64"),
)


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [a for a in get_args(annotation) if a is not NoneType]
        nullable = len(members) < len(get_args(annotation))
        return (_unwrap(members[0])[0] if len(members) == 1 else object), nullable
    return annotation, False


def _extractor(field: Field, annotation: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Takes one field's value from a validated model, as a plain Python value."""
    name = field.name

    def plain(values: Mapping[str, Any]) -> Any:
        return values[name]

    def number(values: Mapping[str, Any]) -> Any:
        value = values[name]
        if value is None or INT64_MIN <= value <= INT64_MAX:
            return value
        raise _OutOfRange(name, "Input should fit a 64-bit integer")

    def real(values: Mapping[str, Any]) -> Any:
        value = values[name]
        if value is None or math.isfinite(value):
            return value
        raise _OutOfRange(name, "Input should be a finite number")

    inner, _ = _unwrap(annotation)
    if (isinstance(inner, type) and issubclass(inner, Enum)) or field.dtype == "object":
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        return lambda values: adapter.dump_python(values[name], mode="json")
    return {"int64": number, "float64": real}.get(field.dtype, plain)


def _load(body: bytes) -> Any:
    """Parses JSON strictly: no NaN, no infinity, no lone surrogate, no duplicate key."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error}."
        raise InvalidInput(
            message, [{"path": [], "message": str(error), "type": "malformed_json"}]
        ) from None
    # Every key has a colon of its own, so as many colons as keys prove that no key was lost;
    # a colon inside a text only costs the slower look.
    if body.count(b":") != _count_keys(data, 0):
        _refuse_duplicates(body)
    return data


def _count_keys(value: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise InvalidInput(
            f"The body is nested more than {MAX_DEPTH} levels deep. Flatten it.",
            [{"path": [], "message": "nested too deep", "type": "too_deep"}],
        )
    if isinstance(value, dict):
        return len(value) + sum(
            _count_keys(v, depth + 1) for v in value.values() if isinstance(v, dict | list)
        )
    if isinstance(value, list):
        return sum(_count_keys(v, depth + 1) for v in value if isinstance(v, dict | list))
    return 0


def _refuse_duplicates(body: bytes) -> None:
    def pairs(items: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in items:
            if key in seen:
                raise InvalidInput(
                    f"The key {key!r} stands twice in one object. Give it once.",
                    [{"path": [key], "message": "duplicate key", "type": "duplicate_key"}],
                )
            seen.add(key)

    # Integers stay text: their value does not matter here, and int() limits their digits.
    json.loads(body, object_pairs_hook=pairs, parse_int=str)


def _problems(error: ValidationError, prefix: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return [{"path": [*prefix, *d["loc"]], "message": d["msg"], "type": d["type"]} for d in details]


def _failure(problems: Sequence[dict[str, Any]]) -> Failure:
    first = problems[0]
    text = "; ".join(f"{'.'.join(map(str, p['path'])) or 'row'}: {p['message']}" for p in problems)
    return Failure("invalid_input", text, path=tuple(first["path"]))


def _some(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:20]))
    return shown + (f" and {len(indices) - 20} more" if len(indices) > 20 else "")


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "a boolean", str: "a text", list: "a list"}.get(type(value), "a number")
