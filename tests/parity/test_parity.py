"""The same rows give the same outcomes on every path."""

import random
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from salver.errors import InputUnreadable, MissingColumns
from salver.parity import compare, compared
from salver.run import Configuration

SERVICES = Path(__file__).with_name("parity_services.py")
ROWS = 1000


def rows(n: int) -> list[dict[str, object]]:
    """Rows of which some are refused by the schema, raise in the model or give NaN."""
    generator = random.Random(7)
    letters = "aeiou bcdfg é😀\u05d0"
    made = []
    for i in range(n):
        text = "".join(generator.choices(letters, k=generator.randrange(0, 60)))
        row: dict[str, object] = {"text": text, "priority": i % 12, "weight": i / 100}
        if i % 50 == 7:
            row["text"] = text + "!raise"
        if i % 50 == 11:
            row["priority"] = 13
        if i % 50 == 23:
            row["priority"] = -1
        if i % 50 == 31:
            row["weight"] = None
        made.append(row)
    return made


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows(ROWS)), path)
    return path


def test_a_thousand_rows_are_equal_on_every_path(parquet):
    """Bare class, HTTP and offline job agree, on the rows that each must refuse too."""
    report = compare(f"{SERVICES}:plain", str(parquet), None, Configuration())

    assert ("bare class", "HTTP", "offline job") == report.paths
    assert [] == report.differences
    assert ROWS == report.rows
    assert 3 * ROWS // 50 == report.rejected


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_text_files_are_equal_too(tmp_path, suffix):
    """A broken line of a file is rejected on every path, and its neighbours are not."""
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        lines = ["text,priority,weight", "a e i,1,2.5", "bcd,x,1", "ae,2,", "too,few", '"a, e",3,0']
    else:
        lines = [orjson.dumps(row).decode() for row in rows(60)]
        lines[5] = '{"text": "a", "text": "b"}'
        lines[6] = "no json"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    report = compare(f"{SERVICES}:plain", str(path), None, Configuration())

    assert [] == report.differences
    assert (2 if suffix == "csv" else 2 + 4) == report.rejected


def test_a_composed_function_is_equal_over_http_and_offline(tmp_path):
    """A composed function has no bare class, so two paths are compared."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows(100)))

    report = compare(f"{SERVICES}:composed", str(path), None, Configuration())

    assert ("HTTP", "offline job") == report.paths
    assert [] == report.differences


def test_a_model_that_drifts_is_found(tmp_path):
    """A class that does not answer the same twice is reported, with the rows that differ."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b"\n".join(orjson.dumps({"text": "t", "priority": 0, "weight": 1}) for _ in range(20))
    )

    report = compare(f"{SERVICES}:drifting", str(path), None, Configuration())

    assert not report.equal
    assert "row" in report.text()
    assert "bare class and" in report.differences[0]


def test_absent_columns_are_filled_on_every_path_if_that_is_said(tmp_path):
    """A file without a column whose field has a default is refused, or answered alike everywhere."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"text": f"t{i}"}) for i in range(20)))

    with pytest.raises(MissingColumns, match="--fill-defaults"):
        compare(f"{SERVICES}:plain", str(path), None, Configuration())
    report = compare(f"{SERVICES}:plain", str(path), None, Configuration(), fill_defaults=True)

    assert report.equal, report.text()


def test_several_files_are_refused(tmp_path):
    """Parity compares one file, and says so."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "t"}\n')

    with pytest.raises(InputUnreadable, match="2 files"):
        compare(f"{SERVICES}:plain", str(tmp_path), None, Configuration())


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ({"prediction": "a"}, {"prediction": "a"}, True),
        ({"prediction": "a"}, {"prediction": "b"}, False),
        ({"x": 1.0}, {"x": 1.0 + 9e-7}, True),
        ({"x": 1.0}, {"x": 1.0 + 2e-6}, False),
        ({"x": [1, {"y": 2}]}, {"x": [1, {"y": 2}]}, True),
        ({"x": [1, 2]}, {"x": [1]}, False),
        ({"x": True}, {"x": False}, False),
        ({"x": 1}, {"y": 1}, False),
        (None, None, True),
        (None, {"x": 1}, False),
    ],
)
def test_outcomes_are_equal_within_the_tolerance(left, right, equal):
    """Labels must be equal, numbers within 1e-6, and rejections alike."""
    assert equal == compared({"first": [left], "second": [right]}).equal


def test_labels_may_differ_at_a_tie():
    """Where the two largest probabilities are within 1e-5, either label is right."""
    tie = {"a": 0.500001, "b": 0.499999}

    report = compared(
        {
            "first": [{"prediction": "a", "probabilities": tie}],
            "second": [{"prediction": "b", "probabilities": tie}],
        }
    )

    assert report.equal
