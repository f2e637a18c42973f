"""The table of types in docs/models.md: one value, three ways in, one array for the model."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from salver.errors import InvalidInput
from salver.models.signature import Signature
from salver.offline.readers import open_reader
from salver.offline.rows import Cursor
from salver.offline.sources import find
from salver.schema import Schema
from salver.types import Batch, Failure

BERLIN = dt.timezone(dt.timedelta(hours=2))
NOON = dt.datetime(2024, 5, 1, 12)  # noqa: DTZ001 - the model's times have no zone
DAY = dt.date(2024, 5, 1)


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}


BOOLEAN, INTEGER, LONG, FLOAT, DOUBLE, STRING, BINARY, DATETIME, ANY = (
    {"type": name}
    for name in (
        "boolean", "integer", "long", "float", "double", "string", "binary", "datetime", "any",
    )
)  # fmt: skip
ARRAY = {"type": "array", "items": DOUBLE}
TIMES = {"type": "array", "items": DATETIME}
OBJECT = {
    "type": "object",
    "properties": {
        "model of": {"type": "binary", "required": True},  # no name for an attribute in Python
        "n": {"type": "long", "required": False},
    },
}
MAP = {"type": "map", "values": DOUBLE}

# MLflow type; JSON values; cells of CSV, null where it cannot be written so; Arrow arrays; what
# the model gets. Values of one place mean the same.
SAME: dict[str, tuple[Any, list[Any], list[str] | None, list[Any], Any]] = {
    "boolean": (
        BOOLEAN, [True, False], ["true", "0"], [pa.array([True, False])],
        np.array([True, False]),
    ),
    "integer": (
        INTEGER, [3, 3.0, -(2**31)], ["3", "3.0", "-2147483648"],
        [pa.array([3, 3, -(2**31)]), pa.array([3.0, 3, -(2**31)])],
        np.array([3, 3, -(2**31)], dtype=np.int32),
    ),
    "long": (
        LONG, [2**62, 1.0], ["4611686018427387904", "1"], [pa.array([2**62, 1])],
        np.array([2**62, 1]),
    ),
    "float": (
        FLOAT, [0.1, 3], ["0.1", "3"], [pa.array([0.1, 3]), pa.array([0.1, 3], pa.float32())],
        np.array([0.1, 3], dtype=np.float32),
    ),
    "double": (
        DOUBLE, [0.1, 3], ["0.1", "3"], [pa.array([0.1, 3])], np.array([0.1, 3]),
    ),
    "double, whole": (DOUBLE, [1, 3], ["1", "3"], [pa.array([1, 3])], np.array([1.0, 3])),
    "string": (
        STRING, ["ü", "3", ""], ["ü", "3", ""],
        [pa.array(["ü", "3", ""]), pa.array(["ü", "3", ""]).dictionary_encode()],
        np.array(["ü", "3", ""], dtype=object),
    ),
    "binary": (
        BINARY, ["AGE=", ""], ["AGE=", ""], [pa.array([b"\0a", b""]), pa.array(["AGE=", ""])],
        np.array([b"\0a", b""], dtype=object),
    ),
    "datetime": (
        DATETIME,
        ["2024-05-01T12:00:00", "2024-05-01T14:00:00+02:00", "2024-05-01 12:00:00Z"],
        ["2024-05-01T12:00:00", "2024-05-01T14:00:00+02:00", "2024-05-01 12:00:00Z"],
        [
            pa.array([NOON] * 3),
            pa.array([NOON] * 3, pa.timestamp("ns")),
            pa.array([NOON.replace(hour=14, tzinfo=BERLIN)] * 3, pa.timestamp("us", "+02:00")),
        ],
        np.array([NOON] * 3, dtype="datetime64[us]"),
    ),
    "datetime, a day": (
        DATETIME, ["2024-05-01"], ["2024-05-01"], [pa.array([DAY])],
        np.array([DAY], dtype="datetime64[us]"),
    ),
    "array": (
        ARRAY, [[1, 2.5], []], ["[1, 2.5]", "[]"], [pa.array([[1, 2.5], []])],
        np.array([[1.0, 2.5], []], dtype=object),
    ),
    "array of times": (
        TIMES, [["2024-05-01"], []], ['["2024-05-01"]', "[]"], [pa.array([[DAY], []])],
        np.array([[NOON.replace(hour=0)], []], dtype=object),
    ),
    "object": (
        OBJECT, [{"model of": "AA==", "n": 1.0}, {"model of": ""}],
        ['{"model of": "AA==", "n": 1}', '{"model of": ""}'],
        [pa.array([{"model of": b"\0", "n": 1}, {"model of": b""}])],
        np.array([{"model of": b"\0", "n": 1}, {"model of": b""}], dtype=object),
    ),
    "map": (
        MAP, [{"a": 1}, {"a": 0.5}], ['{"a": 1}', '{"a": 0.5}'],
        [
            pa.array([{"a": 1.0}, {"a": 0.5}]),
            pa.array([[("a", 1.0)], [("a", 0.5)]], pa.map_(pa.string(), pa.float64())),
        ],
        np.array([{"a": 1.0}, {"a": 0.5}], dtype=object),
    ),
    "any": (
        ANY, ["a", "b"], ["a", "b"], [pa.array(["a", "b"])], np.array(["a", "b"], dtype=object),
    ),
    "tensor": (
        tensor("float32", 2), [[1, 2], [3, 0.1]], ["[1, 2]", "[3, 0.1]"],
        [pa.array([[1.0, 2], [3, 0.1]]), pa.array([[1, 2], [3, 0.1]], pa.list_(pa.float32(), 2))],
        np.array([[1, 2], [3, 0.1]], dtype=np.float32),
    ),
    "tensor of bytes": (
        tensor("uint8", 1, 2), [[[0, 255]]], ["[[0, 255]]"], [pa.array([[[0, 255]]])],
        np.array([[[0, 255]]], dtype=np.uint8),
    ),
    "tensor of one number": (
        tensor("float64"), [1, 0.5], ["1", "0.5"], [pa.array([1, 0.5])], np.array([1, 0.5]),
    ),
    "tensor of texts": (
        tensor("str"), ["a", "b"], ["a", "b"], [pa.array(["a", "b"])],
        np.array(["a", "b"], dtype=object),
    ),
    "missing boolean": (
        BOOLEAN, [True, None], ["true", ""], [pa.array([True, None])],
        np.array([True, None], dtype=object),
    ),
    "missing integer": (
        LONG, [3, None], ["3", ""], [pa.array([3, None]), pa.array([3.0, None])],
        np.array([3, np.nan]),
    ),
    "missing float": (
        FLOAT, [0.1, None], ["0.1", ""], [pa.array([0.1, None])],
        np.array([0.1, np.nan], dtype=np.float32),
    ),
    "missing double": (
        DOUBLE, [0.1, None], ["0.1", ""], [pa.array([0.1, None])], np.array([0.1, np.nan]),
    ),
    "missing datetime": (
        DATETIME, ["2024-05-01T12:00:00", None], ["2024-05-01T12:00:00", ""],
        [pa.array([NOON, None])],
        np.array([NOON, None], dtype="datetime64[us]"),
    ),
    "missing string": (
        STRING, ["a", None], None, [pa.array(["a", None])], np.array(["a", None], dtype=object),
    ),
    "missing binary": (
        BINARY, ["AA==", None], None, [pa.array([b"\0", None])],
        np.array([b"\0", None], dtype=object),
    ),
    "missing array": (
        ARRAY, [[1], None], ["[1]", ""], [pa.array([[1.0], None])],
        np.array([[1.0], None], dtype=object),
    ),
}  # fmt: skip


def schema_of(kind: Any, required: bool) -> tuple[Signature, Schema]:
    signature = Signature.load([{**kind, "name": "x", "required": required}], "m")
    return signature, Schema(signature.row_model("Row"))


def from_file(path: Path, schema: Schema) -> list[Any]:
    """Rows and failures of a file, as `salver predict` reads it."""
    blocks = open_reader(find(str(path)), schema).blocks(Cursor())
    return [row for block in blocks for row in block.checked]


def as_csv(path: Path, cells: list[str]) -> Path:
    text = io.StringIO()
    # A second column, so that an empty cell is no empty line.
    csv.writer(text).writerows([["x", "id"], *([cell, "0"] for cell in cells)])
    path.write_text(text.getvalue())
    return path


def as_jsonl(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps({"x": value}) + "\n" for value in values))
    return path


def as_parquet(path: Path, values: Any) -> Path:
    pq.write_table(pa.table({"x": values}), path)
    return path


@pytest.mark.parametrize("name", SAME)
def test_the_same_value_is_the_same_array_from_everywhere(tmp_path: Path, name: str) -> None:
    """A request, JSON Lines, CSV and Parquet; of one dtype."""
    kind, values, cells, arrow, expected = SAME[name]
    signature, schema = schema_of(kind, required=not name.startswith("missing"))
    given = {
        "request": schema.parse_json(json.dumps([{"x": v} for v in values]).encode()).rows,
        "jsonl": from_file(as_jsonl(tmp_path / "in.jsonl", values), schema),
    }
    if cells is not None:
        given["csv"] = from_file(as_csv(tmp_path / "in.csv", cells), schema)
    for i, array in enumerate(arrow):
        given[f"parquet {i}"] = from_file(as_parquet(tmp_path / f"{i}.parquet", array), schema)
    for way, rows in given.items():
        assert not [row for row in rows if isinstance(row, Failure)], way
        found = signature.arrays(Batch(schema.fields, rows).columns())["x"]
        assert (expected.dtype, expected.shape) == (found.dtype, found.shape), way
        assert repr(expected.tolist()) == repr(found.tolist()), way


# What is refused everywhere: type; JSON, cell and Arrow array of one value, null where it cannot
# be written so.
REFUSED: dict[str, tuple[Any, Any, str | None, Any]] = {
    "text for a number": (LONG, "three", "three", pa.array(["three"])),
    "digits in a text": (LONG, "3", None, pa.array(["3"])),
    "number for a text": (STRING, 3, None, pa.array([3])),
    "number for a boolean": (BOOLEAN, 1, "2", pa.array([1])),
    "boolean for a number": (LONG, True, "true", pa.array([True])),
    "fraction for an integer": (INTEGER, 3.5, "3.5", pa.array([3.5])),
    "integer above 32 bits": (INTEGER, 2**31, "2147483648", pa.array([2**31])),
    "integer above 64 bits": (LONG, 2**63, "9223372036854775808", None),
    "float above 32 bits": (FLOAT, 1e39, "1e39", pa.array([1e39])),
    "no number": (DOUBLE, None, "nan", pa.array([float("nan")])),
    "no base64": (BINARY, "a?", "a?", pa.array(["a?"])),
    "seconds for a time": (DATETIME, 1714564800, "1714564800", pa.array([1714564800])),
    "text for a time": (DATETIME, "soon", "soon", pa.array(["soon"])),
    "missing where it must be": (LONG, None, "", pa.array([None], pa.int64())),
    "missing time where it must be": (DATETIME, None, "", pa.array([None], pa.timestamp("us"))),
    "missing item": (ARRAY, [None], "[null]", pa.array([[None]], pa.list_(pa.float64()))),
    "no JSON for an array": (ARRAY, "1, 2.5", "1, 2.5", pa.array(["1, 2.5"])),
    "tensor of another shape": (tensor("float32", 2), [1], "[1]", pa.array([[1.0]])),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_everywhere(tmp_path: Path, name: str) -> None:
    """A request as a whole, a row of a file by itself."""
    kind, value, cell, array = REFUSED[name]
    _, schema = schema_of(kind, required=True)
    with pytest.raises(InvalidInput, match="row was refused"):
        schema.parse_json(json.dumps({"x": value}).encode())
    files = [as_jsonl(tmp_path / "in.jsonl", [value])]
    if cell is not None:
        files.append(as_csv(tmp_path / "in.csv", [cell]))
    if array is not None:
        files.append(as_parquet(tmp_path / "in.parquet", array))
    for file in files:
        (row,) = from_file(file, schema)
        assert isinstance(row, Failure), file.name
        assert row.message.startswith("x"), file.name


def test_an_optional_number_may_be_missing_and_not_be_nan(tmp_path: Path) -> None:
    """pandas writes NaN to Parquet as null; a NaN that stands there is a mistake."""
    _, schema = schema_of(DOUBLE, required=False)
    missing, nan = from_file(as_parquet(tmp_path / "a.parquet", pa.array([None, np.nan])), schema)
    assert (None,) == missing
    assert isinstance(nan, Failure)


def test_inputs_may_be_called_what_another_would_be_in_python() -> None:
    """Each keeps its own values."""
    columns = [{"type": "double", "name": name} for name in ("column_1", "a b", "column_x", "_z")]
    signature = Signature.load(columns, "the model")
    batch = Schema(signature.row_model("Row")).check_rows(
        [{"column_1": 1.0, "a b": 2.0, "column_x": 3.0, "_z": 4.0}]
    )
    found = signature.arrays(batch.batch.columns())
    assert [1.0, 2.0, 3.0, 4.0] == [found[c["name"]][0] for c in columns]


def test_tensors_of_several_lengths_are_an_array_of_arrays() -> None:
    """Where the signature leaves the length open."""
    signature, schema = schema_of(tensor("float32", -1), required=True)
    batch = schema.parse_json(b'[{"x": [1, 2]}, {"x": [3]}]')
    found = signature.arrays(batch.columns())["x"]
    assert [[1, 2], [3]] == [one.tolist() for one in found]
    assert {np.dtype("float32")} == {one.dtype for one in found}
