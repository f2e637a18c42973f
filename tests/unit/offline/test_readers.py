"""Tests of `salver.offline.readers`: Parquet; see test_text_readers.py for the other formats."""

from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from offline.jobs import Project
from salver.errors import InputUnreadable, MissingColumns
from salver.offline.readers import ParquetReader, open_reader
from salver.offline.rows import Cursor
from salver.offline.sources import find
from salver.schema import Schema
from salver.types import Failure


def opened(path: Path, model: type[BaseModel] = Project, **options: Any) -> ParquetReader:
    reader = open_reader(find(str(path)), Schema(model), **options)
    assert isinstance(reader, ParquetReader)
    return reader


def checked(path: Path, model: type[BaseModel] = Project) -> list[Any]:
    blocks = opened(path, model).blocks(Cursor())
    rows = [row for block in blocks for row in block.checked]
    return [row.code if isinstance(row, Failure) else row for row in rows]


def test_columns_keep_their_types(tmp_path: Path) -> None:
    """Rows are checked as Python values, and stay Arrow rows for the output."""
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int16()),
            "title": pa.array(["a", None]).dictionary_encode(),
            "description": pa.array(["b", "c"], pa.large_string()),
            "at": pa.array([1, 2], pa.timestamp("ns", "UTC")),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    reader = opened(tmp_path / "in.parquet")
    (block,) = reader.blocks(Cursor())
    assert block.checked[0] == ("a", "b")
    assert isinstance(block.checked[1], Failure)
    assert block.given.schema.types == reader.columns.types == table.schema.types
    assert block.position(1) == {"file": "in.parquet", "row": 1}
    at = datetime(1970, 1, 1, tzinfo=UTC)
    assert block.as_read(1) == {"id": 2, "title": None, "description": "c", "at": at}


def test_values_of_all_kinds_reach_the_schema(tmp_path: Path) -> None:
    """Dates, enums, nulls and nested values pass as online; NaN does not."""

    class Colour(Enum):
        RED = "red"

    class Row(BaseModel):
        n: int | None
        x: float
        day: date
        colour: Colour
        tags: list[str]

    rows = [
        {"n": 1, "x": 0.5, "day": date(2024, 1, 2), "colour": "red", "tags": ["a"]},
        {"n": None, "x": 2.0, "day": date(2024, 1, 2), "colour": "red", "tags": []},
        {"n": 1, "x": float("nan"), "day": date(2024, 1, 2), "colour": "red", "tags": []},
        {"n": 1, "x": 1.0, "day": None, "colour": "blue", "tags": []},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    assert checked(tmp_path / "in.parquet", Row) == [
        (1, 0.5, "2024-01-02", "red", ["a"]),
        (None, 2.0, "2024-01-02", "red", []),
        "invalid_input",
        "invalid_input",
    ]


def test_text_that_is_no_unicode_costs_its_row(tmp_path: Path) -> None:
    """Parquet does not promise valid UTF-8; the row is refused, its neighbours are not."""
    garbled = pa.array([b"a", b"caf\xe9", b"c"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(
        pa.table({"title": garbled, "description": ["", "", ""]}), tmp_path / "in.parquet"
    )
    assert checked(tmp_path / "in.parquet") == [("a", ""), "invalid_input", ("c", "")]
    (block,) = opened(tmp_path / "in.parquet").blocks(Cursor())
    assert block.as_read(1)["title"] == "caf\\xe9"


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    """As in every format."""
    pq.write_table(pa.table({"title": ["a"]}), tmp_path / "in.parquet")
    with pytest.raises(MissingColumns, match=r"'description'.*Columns found: 'title'"):
        opened(tmp_path / "in.parquet")
    (block,) = opened(tmp_path / "in.parquet", fill_defaults=True).blocks(Cursor())
    assert block.checked == [("a", "")]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Whether its footer or its pages are damaged."""
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1 no parquet")
    with pytest.raises(InputUnreadable, match=r"in\.parquet is no readable Parquet file"):
        opened(path)
    table = pa.table({"title": [f"t{i}" for i in range(999)], "description": ["x"] * 999})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(InputUnreadable, match=r"in\.parquet cannot be read"):
        list(opened(path).blocks(Cursor()))


def test_files_of_a_folder_get_one_schema(tmp_path: Path) -> None:
    """Types that go together are joined, absent columns are null, others are refused."""
    a = pa.table({"title": ["a"], "description": ["b"], "n": pa.array([1], pa.int32())})
    b = pa.table({"description": ["b"], "title": ["c"], "n": [0.5], "m": ["x"]})
    pq.write_table(a, tmp_path / "a.parquet")
    pq.write_table(b, tmp_path / "b.parquet")
    reader = opened(tmp_path)
    rows = [block.as_read(0) for block in reader.blocks(Cursor())]
    assert rows == [
        {"title": "a", "description": "b", "n": 1.0, "m": None},
        {"title": "c", "description": "b", "n": 0.5, "m": "x"},
    ]
    pq.write_table(a.set_column(2, "n", [["text"]]), tmp_path / "c.parquet")
    with pytest.raises(InputUnreadable, match=r"c\.parquet do not go"):
        opened(tmp_path)


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    """An empty table is read as one."""
    schema = pa.schema([("title", pa.string()), ("description", pa.string())])
    pq.write_table(schema.empty_table(), tmp_path / "in.parquet")
    assert checked(tmp_path / "in.parquet") == []


@pytest.mark.parametrize("rows", [1, 7, 512])
def test_reading_goes_on_at_any_block(tmp_path: Path, rows: int) -> None:
    """From the end of each block on, the same blocks follow, across row groups and files."""
    table = pa.table({"title": [f"t{i}" for i in range(50)], "description": ["x"] * 50})
    for name in ("a", "b"):
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=15)
    reader = opened(tmp_path)
    blocks = list(reader.blocks(Cursor(), rows))
    assert sum(map(len, blocks)) == 100
    for i, block in enumerate(blocks):
        again = list(reader.blocks(block.end, rows))
        assert [b.checked for b in again] == [b.checked for b in blocks[i + 1 :]]
        assert [b.end for b in again] == [b.end for b in blocks[i + 1 :]]


def test_blocks_of_long_rows_hold_few(tmp_path: Path) -> None:
    """Long texts make small blocks, so that memory stays bounded."""
    table = pa.table({"title": [str(i) * 100_000 for i in range(60)], "description": ["x"] * 60})
    pq.write_table(table, tmp_path / "in.parquet", use_dictionary=False)
    blocks = list(opened(tmp_path / "in.parquet").blocks(Cursor()))
    assert max(map(len, blocks)) <= 10
    assert sum(map(len, blocks)) == 60
