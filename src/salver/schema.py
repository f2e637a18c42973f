"""What a row must look like, and the only place where outside data becomes a `Batch`.

A schema is made from a pydantic model. Rows are checked strictly ("5" is no number) by one
compiled validator, whether they come as a request body, a line of a file or a Python object, so
that online and offline refuse the same rows. It does not know who sent a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from salver.columns import (
    MAX_DEPTH,
    NOT_JSON,
    Unfit,
    extractor,
    fault,
    field_of,
    spellings_of,
    text_reader,
)
from salver.errors import ConfigError, InvalidInput, TooManyRows
from salver.flat import flat_reader
from salver.types import Batch, Failure, Row

MAX_PROBLEMS = 100  # named in one answer
MAX_VALUES = 500_000  # in one body; checking costs time and memory per value, not per byte


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
        is_model = isinstance(model, type) and issubclass(model, BaseModel)
        if not is_model or issubclass(model, RootModel):
            raise ConfigError(
                f"input= was given {model!r}; it takes a pydantic model that describes one row, "
                "for example: class Project(BaseModel): title: str"
            )
        if not model.model_fields:
            raise ConfigError(
                f"The input model {model.__name__} has no fields. Declare at least one."
            )
        infos = model.model_fields
        by_name = model.model_config.get("populate_by_name") or model.model_config.get(
            "validate_by_name"
        )
        self.model = model
        self.fields = tuple(field_of(name, info) for name, info in infos.items())
        self._spellings = {n: spellings_of(n, info, bool(by_name)) for n, info in infos.items()}
        self.required = tuple(self._spellings[n][0] for n, i in infos.items() if i.is_required())
        self._one: TypeAdapter[BaseModel] = TypeAdapter(model)
        self._many: TypeAdapter[list[BaseModel]] = TypeAdapter(list[model])  # type: ignore[valid-type]
        self._extract = tuple(
            extractor(f, self._spellings[f.name][0], infos[f.name].rebuild_annotation())
            for f in self.fields
        )
        self._flat = flat_reader(model)
        self._readers = {
            spelling: (f, text_reader(f, infos[f.name].annotation))
            for f in self.fields
            for spelling in self._spellings[f.name]
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields as they stand in a row of input."""
        return tuple(spellings[0] for spellings in self._spellings.values())

    @property
    def _forbids_others(self) -> bool:
        return self.model.model_config.get("extra") == "forbid"

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of one row."""
        return self.model.model_json_schema(ref_template="#/components/schemas/{model}")

    def parse_json(self, body: bytes, max_rows: int | None = None) -> Batch:
        """Rows of a request body: one object, or a list of objects.

        Raises:
            InvalidInput: If the body is no JSON, or any row is refused; names every bad row, and
                the first `MAX_PROBLEMS` bad fields.
            TooManyRows: If a list holds more than `max_rows`.
        """
        data = _parsed(body)
        is_list = isinstance(data, list)
        if is_list and max_rows is not None and len(data) > max_rows:
            raise TooManyRows(
                f"The list holds {len(data)} rows; one request may carry {max_rows}. Send several "
                "requests, or use `salver predict` for files."
            )
        rows = self._flat_rows(body, data if is_list else [data])
        if rows is None:
            rows = self._rows(body, data, is_list)
        return Batch(self.fields, rows)

    def _flat_rows(self, body: bytes, data: list[Any]) -> list[tuple[Any, ...]] | None:
        """The rows of a body, or null if it takes the validator to know."""
        if self._flat is None:
            return None
        rows = []
        for one in data:
            row = self._flat(one)
            if row is None:
                return None
            rows.append(row)
        # Each key has a colon of its own; without escapes, all others stand in the texts.
        others = body.count(b":") - sum(map(len, data))
        if others and (b"\\" in body or others != _colons(data)):
            return None
        return rows

    def _flat_given(self, given: list[Any]) -> list[tuple[Any, ...]] | None:
        """The same for rows that were no JSON, whose values may be what JSON does not hold."""
        if self._flat is None:
            return None
        rows = []
        for one in given:
            row = self._flat(one)
            if row is None or any(map(fault, row)):
                return None
            rows.append(row)
        return rows

    def _rows(self, body: bytes, data: Any, is_list: bool) -> list[tuple[Any, ...]]:
        _check_keys(body, data)
        if not is_list and not isinstance(data, dict):
            raise InvalidInput(
                f"The body is {_json_type(data)}; it must be one object or a list of objects.",
                [{"path": [], "message": "expected an object or a list", "type": "json_type"}],
            )
        adapter: TypeAdapter[Any] = self._many if is_list else self._one
        try:
            valid = adapter.validate_json(body, strict=True)
            return [self._row(one) for one in (valid if is_list else [valid])]
        except (ValidationError, Unfit):
            raise self._refusal(from_json(body), is_list) from None

    def check_json_line(
        self, line: bytes
    ) -> tuple[dict[str, Any] | None, tuple[Any, ...] | Failure]:
        """One line of a JSON Lines file: the object as read, and its row or why it has none."""
        data: Any = None
        try:
            data = _parsed(line)
            rows = self._flat_rows(line, [data])
            if rows is not None:
                return data, rows[0]
            _check_keys(line, data)
            if not isinstance(data, dict):
                raise InvalidInput(f"The line is {_json_type(data)}; it must be one object.")
            return data, self._row(self._one.validate_json(line, strict=True))
        except InvalidInput as error:
            return None, Failure(error.code, error.message)
        except (ValidationError, Unfit) as error:
            return data, _failure(_problems(error))

    def check_rows(self, rows: Iterable[Row | BaseModel], *, text: bool = False) -> Checked:
        """Checks rows given as mappings; a refused row never hurts its neighbours.

        Args:
            rows: The rows, of JSON values or of Python's own (a date, a member of an enum), or
                instances of a model; unknown keys are ignored unless the model forbids them.
            text: True when all values are texts, as in a CSV file: "5" is then a number, and an
                empty text is a missing value for every field that is no string.
        """
        given = [self._from_text(row) if text else self._plainly(row) for row in rows]
        flat = self._flat_given(given)
        if flat is not None:
            return Checked(Batch(self.fields, flat), list(range(len(given))), {})
        try:
            valid = (
                self._many.validate_json(_to_json(given), strict=True)
                if text
                else self._many.validate_python(given, strict=True)
            )
            batch = Batch(self.fields, [self._row(one) for one in valid])
            return Checked(batch, list(range(len(given))), {})
        except (ValidationError, Unfit):
            pass  # some row is bad: go one by one to find which
        passed: list[tuple[Any, ...]] = []
        positions: list[int] = []
        rejected: dict[int, Failure] = {}
        for i, row in enumerate(given):
            try:
                passed.append(self._row(self._validated(row, text)))
                positions.append(i)
            except (ValidationError, Unfit) as error:
                rejected[i] = _failure(_problems(error))
        return Checked(Batch(self.fields, passed), positions, rejected)

    def _validated(self, row: Any, text: bool) -> BaseModel:
        if not text:
            try:
                return self._one.validate_python(row, strict=True)
            except ValidationError as error:
                # A date or an enum's value as JSON has it is refused as Python, and passes as JSON.
                if error.error_count() > MAX_PROBLEMS:
                    inputs = [row]  # which is quicker than to gather the refused parts
                else:
                    inputs = [d["input"] for d in error.errors(include_url=False)]
                if any(map(fault, inputs)):
                    raise
        return self._one.validate_json(_to_json(row), strict=True)

    def _plainly(self, row: Any) -> Any:
        if isinstance(row, BaseModel):
            return {self._spellings.get(name, (name,))[0]: value for name, value in row}
        return dict(row) if isinstance(row, Mapping) else row

    def _from_text(self, row: Any) -> Any:
        """A row of texts as JSON values; a text that is none for its field stays, to be refused."""
        if not isinstance(row, Mapping):
            return row
        values: dict[Any, Any] = {}
        for name, text in row.items():
            if name not in self._readers:
                if self._forbids_others:
                    values[name] = text
                continue
            field, read = self._readers[name]
            if text is not None and (text != "" or field.dtype == "string"):
                values[name] = read(text)
            elif field.nullable and name in self.required:
                values[name] = None
        return values

    def _row(self, one: BaseModel) -> tuple[Any, ...]:
        values = one.__dict__
        try:
            return tuple([extract(values) for extract in self._extract])
        except Unfit as error:
            error.problems = [p for extract in self._extract for p in _unfit(extract, values)]
            raise

    def _refusal(self, data: Any, is_list: bool) -> InvalidInput:
        # Rows are looked at again one by one, so that every bad one is named, also those that
        # are valid JSON types but out of a column's range.
        problems: list[dict[str, Any]] = []
        bad: list[int] = []
        for i, row in enumerate(data if is_list else [data]):
            try:
                self._row(self._one.validate_json(to_json(row), strict=True))
            except (ValidationError, Unfit) as error:
                bad.append(i)
                if len(problems) < MAX_PROBLEMS:
                    problems += _problems(error, (i,) if is_list else ())
        which = (
            f"{len(bad)} of {len(data)} rows were refused: {', '.join(map(str, bad))}."
            if is_list
            else "The row was refused."
        )
        hint = "Mend the fields named in `problems` and send it again; nothing was computed."
        return InvalidInput(f"{which} {hint}", problems[:MAX_PROBLEMS])


def _to_json(value: Any) -> bytes:
    try:
        return to_json(value)
    except ValueError:
        raise Unfit([], NOT_JSON) from None


def _unfit(extract: Callable[[Any], Any], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        extract(values)
    except Unfit as error:
        return error.problems
    return []


def _parsed(body: bytes) -> Any:
    """Parses JSON strictly: no NaN, no infinity, no lone surrogate.

    Its values are bounded before any is made: each has a brace, a bracket or a comma of its own.
    """
    if len(body) > MAX_VALUES and sum(map(body.count, (b"{", b"[", b","))) > MAX_VALUES:
        raise InvalidInput(
            f"The body holds more than {MAX_VALUES} commas, braces and brackets. Send fewer rows "
            "at a time.",
            [{"path": [], "message": "too many values", "type": "too_many_values"}],
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error}."
        raise InvalidInput(
            message, [{"path": [], "message": str(error), "type": "malformed_json"}]
        ) from None


def _colons(data: list[dict[str, Any]]) -> int:
    texts = (text for one in data for text in one.values() if isinstance(text, str))
    return sum(text.count(":") for text in texts)


def _check_keys(body: bytes, data: Any) -> None:
    """Refuses duplicate keys and endless nesting."""
    # Every key has a colon of its own, so as many colons as keys prove that no key was lost;
    # a colon inside a text only costs the slower look.
    if body.count(b":") != _count_keys(data, -1 if isinstance(data, list) else 0):
        _refuse_duplicates(body)


def _count_keys(value: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise _too_deep()
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

    try:
        # Integers stay text: their value does not matter here, and int() limits their digits.
        json.loads(body, object_pairs_hook=pairs, parse_int=str)
    except RecursionError:  # in a value that a second one of the same key has hidden
        raise _too_deep() from None


def _too_deep() -> InvalidInput:
    return InvalidInput(
        f"A row is nested more than {MAX_DEPTH} levels deep. Flatten it.",
        [{"path": [], "message": "nested too deep", "type": "too_deep"}],
    )


def _problems(error: ValidationError | Unfit, prefix: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    if isinstance(error, Unfit):
        return [{**p, "path": [*prefix, *p["path"]]} for p in error.problems]
    count = error.error_count()
    if count > MAX_PROBLEMS:  # to name them all takes seconds and gigabytes
        message = f"{count} values were refused, too many to name"
        return [{"path": [*prefix], "message": message, "type": "too_many_problems"}]
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return [{"path": [*prefix, *d["loc"]], "message": d["msg"], "type": d["type"]} for d in details]


def _failure(problems: Sequence[dict[str, Any]]) -> Failure:
    first = problems[0]
    text = "; ".join(f"{'.'.join(map(str, p['path'])) or 'row'}: {p['message']}" for p in problems)
    return Failure("invalid_input", text, path=tuple(first["path"]))


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "a boolean", str: "a text", list: "a list"}.get(type(value), "a number")
