"""The columns of the output: their names and Arrow types, the same in every part.

Types are learnt from the rows, since neither a model nor JSON Lines declare them. A layout only
ever widens: null to anything, integers to floating point, structs by new fields, and what does
not go together to JSON texts. Parts written before the last widening are widened at the end. It
does not know files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from salver.offline.rows import dump
from salver.types import ClassProbabilities

INPUT_PREFIX = "input."  # for a column of the input that bears the name of a result
MAX_STRUCT_FIELDS = 1000  # a mapping with more keys holds data in its keys
_JSON = {b"content-type": b"application/json"}
_EMPTY = pa.schema([])


@dataclass(frozen=True)
class Layout:
    """Arrow schemas of the columns that come from the input and of the results.

    Attributes:
        inputs: Columns of the input, under their own names.
        results: Columns of the results.
    """

    inputs: Any = _EMPTY
    results: Any = _EMPTY

    @property
    def output(self) -> Any:
        """Schema of a part: an input's column with the name of a result is prefixed."""
        taken = set(self.results.names)
        renamed = [f.with_name(renamed_input(f.name, taken)) for f in self.inputs]
        return pa.schema([*renamed, *self.results])

    def joined(self, inputs: Any, results: Any) -> Layout:
        """The narrowest layout that holds these columns too."""
        return Layout(_joined(self.inputs, inputs), _joined(self.results, results))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and all(
            a.equals(b, check_metadata=True)
            for a, b in ((self.inputs, other.inputs), (self.results, other.results))
        )

    __hash__ = None  # type: ignore[assignment]

    def to_json(self) -> dict[str, str]:
        """For the journal."""
        schemas = {"inputs": self.inputs, "results": self.results}
        return {k: base64.b64encode(s.serialize()).decode() for k, s in schemas.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Layout:
        """From the journal."""
        schemas = {
            k: pa.ipc.read_schema(pa.py_buffer(base64.b64decode(v))) for k, v in data.items()
        }
        return cls(**schemas)


def renamed_input(name: str, results: set[str]) -> str:
    """The output's name of an input column; two never get the same one."""
    return INPUT_PREFIX + name if _stem(name) in results else name


def _stem(name: str) -> str:
    while name.startswith(INPUT_PREFIX):
        name = name.removeprefix(INPUT_PREFIX)
    return name


def as_table(columns: Mapping[str, Sequence[Any]]) -> Any:
    """Columns of plain Python values as an Arrow table, with the narrowest types that hold them.

    Raises:
        TypeError, UnicodeEncodeError: If a value is no valid Unicode or exceeds 64 bits.
    """
    fields, arrays = [], []
    for name, values in columns.items():
        array = _as_array(values)
        fields.append(_json_field(name) if array is None else pa.field(name, array.type))
        arrays.append(_as_json(values) if array is None else array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def mappings_as_table(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Any:
    """The columns `names` of rows as an Arrow table; what a row lacks is null."""
    return as_table({name: [row.get(name) for row in rows] for name in names})


def widened(table: Any, schema: Any) -> Any:
    """The table with the columns of `schema`, to which all its types can be widened."""
    names = table.schema.names
    arrays = []
    for f in schema:
        if f.name in names:
            at = names.index(f.name)
            arrays.append(_widened(table.column(at), table.schema.field(at), f))
        else:
            arrays.append(pa.nulls(table.num_rows, f.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _joined(one: Any, other: Any) -> Any:
    if one.equals(other, check_metadata=True):
        return one
    fields = {f.name: f for f in one}
    for f in other:
        fields[f.name] = _joined_field(fields[f.name], f) if f.name in fields else f
    return pa.schema(list(fields.values()))


def _joined_field(one: Any, other: Any) -> Any:
    if pa.types.is_null(other.type) or one.equals(other, check_metadata=True):
        return one
    if pa.types.is_null(one.type):
        return other
    if _is_json(one) or _is_json(other):
        return _json_field(one.name)
    try:
        both = [pa.schema([one]), pa.schema([other])]
        field = pa.unify_schemas(both, promote_options="permissive").field(0)
    except pa.ArrowException:
        return _json_field(one.name)
    return field if _is_storable(field.type) else _json_field(one.name)


def _is_json(field: Any) -> bool:
    return bool(field.metadata == _JSON)


def _json_field(name: str) -> Any:
    return pa.field(name, pa.string(), metadata=_JSON)


def _as_json(values: Sequence[Any]) -> Any:
    return pa.array([None if v is None else dump(v).decode() for v in values], pa.string())


def _as_array(values: Sequence[Any]) -> Any:
    """An Arrow array with the type that fits all values, or null if there is none."""
    if isinstance(values, ClassProbabilities):
        numbers = np.asarray(values.values, dtype=np.float64).reshape(-1, len(values.classes))
        columns = [pa.array(numbers[:, k]) for k in range(len(values.classes))]
        return pa.StructArray.from_arrays(columns, names=list(values.classes))
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError):
        return None
    return array if _is_storable(array.type) else None


def _is_storable(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return 0 < kind.num_fields <= MAX_STRUCT_FIELDS and all(
            _is_storable(kind.field(i).type) for i in range(kind.num_fields)
        )
    return _is_storable(kind.value_type) if pa.types.is_list(kind) else True


def _widened(column: Any, old: Any, new: Any) -> Any:
    if old.equals(new, check_metadata=True):
        return column
    if pa.types.is_null(old.type):
        return pa.nulls(len(column), new.type)
    if _is_json(new):
        return _as_json(column.to_pylist())
    try:
        return column.cast(new.type, safe=False)
    except pa.ArrowException:  # not every nested type can be cast
        return pa.array(column.to_pylist(), new.type)
