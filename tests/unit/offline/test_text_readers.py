"""Tests of `salver.offline.text_readers`."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from offline.jobs import Project
from salver.errors import InputUnreadable, MissingColumns
from salver.offline.readers import open_reader
from salver.offline.rows import Block, Cursor
from salver.offline.sources import find
from salver.schema import Schema
from salver.types import Failure


def read(path: Path, *, model: type[BaseModel] = Project, **options: Any) -> list[Block]:
    return list(open_reader(find(str(path)), Schema(model), **options).blocks(Cursor()))


def checked(path: Path, **options: Any) -> list[Any]:
    """Rows that passed as they are; codes of the others."""
    return [
        row.code if isinstance(row, Failure) else row
        for block in read(path, **options)
        for row in block.checked
    ]


def written(tmp_path: Path, data: bytes, name: str = "in.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_csv_keeps_cells_as_text(tmp_path: Path) -> None:
    """Columns that the schema does not know are kept, and `007` stays `007`."""
    path = written(tmp_path, b"id,title,description\n007,a,b\n")
    (block,) = read(path)
    assert block.given == [{"id": "007", "title": "a", "description": "b"}]
    assert block.checked == [("a", "b")]
    assert block.position(0) == {"file": "in.csv", "row": 0, "line": 2}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_finds_the_delimiter_in_the_header(tmp_path: Path, delimiter: str) -> None:
    """The delimiter that gives the schema's columns is used, with a BOM or without."""
    text = f"{delimiter.join(['title', 'description', 'a b'])}\n{delimiter.join('abc')}\n"
    assert checked(written(tmp_path, b"\xef\xbb\xbf" + text.encode())) == [("a", "b")]
    assert checked(written(tmp_path, text.encode())) == [("a", "b")]


def test_csv_takes_a_given_delimiter(tmp_path: Path) -> None:
    """A delimiter that is no usual one can be said."""
    path = written(tmp_path, b"title^description\na^b\n")
    assert checked(path, delimiter="^") == [("a", "b")]


def test_csv_reads_quotes_line_ends_and_blank_lines(tmp_path: Path) -> None:
    """A quoted cell may hold delimiters, quotes and line ends; blank lines are no rows."""
    data = b'title,description\r\n"a ""b"", c","d\r\ne"\r\n\r\nf,\r\n'
    (block,) = read(written(tmp_path, data))
    assert block.checked == [('a "b", c', "d\r\ne"), ("f", "")]
    assert block.lines == [2, 5]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"only one cell", "1 cells; the header has 2"),
        (b"a,b,c", "3 cells; the header has 2"),
        (b"caf\xe9,b", "byte 4 is no valid UTF-8"),
        (b'"never closed,b', "quote"),
        (b'"a" b,c', "quote"),
        (b"a\rb,c", "carriage return"),
    ],
)
def test_csv_sets_a_bad_row_aside(tmp_path: Path, bad: bytes, reason: str) -> None:
    """A bad row in the middle fails with its line and the reason; its neighbours are read."""
    path = written(tmp_path, b'title,description\na,1\n%b\n"b",2\nc,"3"\n' % bad)
    (block,) = read(path)
    assert [block.checked[i] for i in (0, 2, 3)] == [("a", "1"), ("b", "2"), ("c", "3")]
    failure = block.checked[1]
    assert isinstance(failure, Failure)
    assert failure.code == "malformed_row"
    assert failure.message.startswith("Line 3") and reason in failure.message
    assert block.lines == [2, 3, 4, 5]


def test_csv_reads_on_after_a_quote_that_nothing_closes(tmp_path: Path) -> None:
    """An opened quote without another one in the file costs its own line only."""
    path = written(tmp_path, b'title,description\na,1\n"b,2\nc,3\nd,4')
    assert checked(path) == [("a", "1"), "malformed_row", ("c", "3"), ("d", "4")]


def test_csv_takes_nul_and_long_cells(tmp_path: Path) -> None:
    """NUL is a character like others, and a cell of 300,000 characters passes."""
    path = written(tmp_path, b"title,description\na\x00b," + b"x" * 300_000 + b"\n")
    assert checked(path) == [("a\x00b", "x" * 300_000)]


def test_csv_values_follow_the_schema(tmp_path: Path) -> None:
    """Texts become numbers where the schema says so; what is no number is refused by field."""

    class Numbers(BaseModel):
        n: int
        x: float | None = None

    path = written(tmp_path, b"n,x\n5,1.5\nfive,1\n6,\n")
    assert checked(path, model=Numbers) == [(5, 1.5), "invalid_input", (6, None)]


def test_csv_without_a_column_is_refused(tmp_path: Path) -> None:
    """The message names the missing column, those found and a near one."""
    path = written(tmp_path, b"id,Titel,description\n1,a,b\n")
    with pytest.raises(MissingColumns) as raised:
        read(path)
    for word in ("in.csv", "'title'", "'id', 'Titel', 'description'", "Perhaps 'Titel'", "Project"):
        assert word in raised.value.message
    assert "fill_defaults" not in raised.value.message


def test_a_missing_column_with_a_default_needs_a_word(tmp_path: Path) -> None:
    """A default is used for a whole column only when that is asked for."""
    path = written(tmp_path, b"title\na\n")
    with pytest.raises(MissingColumns, match="fill_defaults"):
        read(path)
    assert checked(path, fill_defaults=True) == [("a", "")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        ("title,description\n".encode("utf-16"), "UTF-16"),
        (b"title,title,description\n", "several columns named 'title'"),
    ],
)
def test_csv_without_a_usable_header_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    """An empty file, UTF-16 and twice the same column are said to be so."""
    with pytest.raises(InputUnreadable, match=reason):
        read(written(tmp_path, data))


def test_csv_with_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    """A table without rows is a table."""
    assert read(written(tmp_path, b"title,description\n")) == []


@pytest.mark.parametrize("rows", [1, 3, 512])
def test_reading_goes_on_at_any_block(tmp_path: Path, rows: int) -> None:
    """From the end of each block on, the same blocks follow, in CSV as in JSON Lines."""
    texts = [f'"t{i}\n",{i}\n' if i % 3 else f"\nt{i},{i}\n" for i in range(20)]
    csv = written(tmp_path, ("title,description\n" + "".join(texts)).encode())
    lines = "".join(f'{{"title": "t{i}", "description": "é"}}\n\n' for i in range(20))
    jsonl = written(tmp_path, lines.encode(), "in.jsonl")
    packed = written(tmp_path, gzip.compress(lines.encode()), "in2.jsonl.gz")
    for path in (csv, jsonl, packed):
        reader = open_reader(find(str(path)), Schema(Project))
        blocks = list(reader.blocks(Cursor(), rows))
        for i, block in enumerate(blocks):
            again = list(reader.blocks(block.end, rows))
            assert [b.given for b in again] == [b.given for b in blocks[i + 1 :]]
            assert [b.lines for b in again] == [b.lines for b in blocks[i + 1 :]]
            assert [b.first for b in again] == [b.first for b in blocks[i + 1 :]]


def test_json_lines_are_checked_like_bodies(tmp_path: Path) -> None:
    """What HTTP refuses is refused here, line by line; blank lines are no rows."""
    lines = [
        b'\xef\xbb\xbf{"title": "a", "description": "b", "id": 1}',
        b"",
        b'{"title": 5, "description": "b"}',
        b"{broken",
        b'{"title": "a", "title": "b"}',
        b'{"title": "\\ud800"}',
        b"[1]",
        b'{"title": "caf\xe9"}',
        b'{"title": "z", "description": "\\u0000"}\r',
    ]
    (block,) = read(written(tmp_path, b"\n".join(lines), "in.jsonl"))
    bad = ["invalid_input"] * 6
    codes = [r.code if isinstance(r, Failure) else r for r in block.checked]
    assert codes == [("a", "b"), *bad, ("z", "\x00")]
    assert block.given[0] == {"title": "a", "description": "b", "id": 1}
    assert block.given[2] == "{broken"
    assert block.given[6] == '{"title": "caf\\xe9"}'
    assert block.lines == [1, 3, 4, 5, 6, 7, 8, 9]


def test_json_lines_without_a_column_are_refused(tmp_path: Path) -> None:
    """A column that no line has is a mistake, as in other formats."""
    path = written(tmp_path, b'{"titel": "a"}\n{"titel": "b"}\n', "in.jsonl")
    with pytest.raises(MissingColumns, match="'title', 'description'"):
        read(path)


def test_an_empty_json_lines_file_has_no_rows(tmp_path: Path) -> None:
    """No lines are no rows."""
    assert read(written(tmp_path, b"", "in.jsonl")) == []


def test_a_json_array_is_refused(tmp_path: Path) -> None:
    """A .json file that is one array is told how to become JSON Lines."""
    with pytest.raises(InputUnreadable, match="jq"):
        read(written(tmp_path, b'[{"title": "a"}]', "in.json"))


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_a_line_without_end_is_bounded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line above the limit is set aside, cut; the next one is read."""
    for module in ("csv_records", "text_readers"):
        monkeypatch.setattr(f"salver.offline.{module}.MAX_ROW_BYTES", 5000)
    long = "x" * 20_000
    if name == "in.csv":
        data = f"title,description\na,{long}\nb,2\n"
    else:
        data = f'{{"title": "{long}", "description": "1"}}\n{{"title": "b", "description": "2"}}\n'
    (block,) = read(written(tmp_path, data.encode(), name))
    assert isinstance(block.checked[0], Failure)
    assert "at most 5,000" in block.checked[0].message
    assert len(block.given[0]) <= 1000
    assert block.checked[1] == ("b", "2")


def test_a_damaged_archive_is_said_to_be_so(tmp_path: Path) -> None:
    """A cut .gz file names itself."""
    data = gzip.compress(b'{"title": "a", "description": "b"}\n' * 9999)[:-20]
    with pytest.raises(InputUnreadable, match=r"in\.jsonl\.gz"):
        read(written(tmp_path, data, "in.jsonl.gz"))
