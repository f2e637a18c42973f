"""Tests of `salver.offline.writers` and `salver.offline.layout`."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from salver.offline.layout import Layout, renamed_input
from salver.offline.writers import Writer, writer_for
from salver.types import ClassProbabilities

Given = tuple[list[dict[str, Any]], dict[str, Sequence[Any]]]


def parts_of(writer: Writer, *given: Given) -> list[bytes]:
    """The parts as they are at the end of a job."""
    parts = []
    for inputs, results in given:
        data = writer.encode(inputs, results)
        parts.append((data, Layout.from_json(writer.layout.to_json())))
    return [p if old == writer.layout else writer.widen(p, old) for p, old in parts]


def tables(*given: Given) -> list[Any]:
    """The Parquet parts as tables; all have one schema."""
    parts = parts_of(writer_for("parquet", None), *given)
    read = [pq.read_table(pa.BufferReader(part)) for part in parts]
    assert all(t.schema.equals(read[0].schema, check_metadata=True) for t in read)
    return read


def results(*values: Any) -> Given:
    return [{"id": i} for i in range(len(values))], {"prediction": list(values)}


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ([None], ["a"], pa.string()),
        (["a"], [None], pa.string()),
        ([1], [None, 2], pa.int64()),
        ([1], [0.5], pa.float64()),
        ([True], [None], pa.bool_()),
        ([[1]], [[0.5], []], pa.list_(pa.float64())),
        ([{"a": 1}], [{"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ([[None]], [["x"]], pa.list_(pa.string())),
    ],
)
def test_types_are_the_same_in_every_part(first: list[Any], second: list[Any], kind: Any) -> None:
    """A type widens to what all parts need, whichever part comes first."""
    for values in ((first, second), (second, first)):
        read = tables(*(results(*v) for v in values))
        found = read[0].schema.field("prediction").type
        if pa.types.is_struct(kind):
            assert {(f.name, f.type) for f in found} == {(f.name, f.type) for f in kind}
        else:
            assert found == kind
        for table, given in zip(read, values, strict=True):
            back = table["prediction"].to_pylist()
            assert [_without_nulls(b) for b in back] == [_without_nulls(g) for g in given]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if v is not None}
    return value


@pytest.mark.parametrize(
    ("first", "second"), [([1], ["a"]), ([True], [1]), ([{"a": 1}], ["x"]), ([[1]], [["a"]])]
)
def test_values_that_do_not_go_together_become_json(first: list[Any], second: list[Any]) -> None:
    """All parts then hold JSON texts, texts among them quoted, so that nothing is lost."""
    for table, given in zip(
        tables(results(*first), results(*second)), (first, second), strict=True
    ):
        assert table.schema.field("prediction").type == pa.string()
        assert [json.loads(v) for v in table["prediction"].to_pylist()] == given


def test_mixed_and_odd_values_in_one_part() -> None:
    """Mixed kinds, numbers above 64 bits as floats and empty mappings are JSON texts, null is null."""
    (table,) = tables(results(1, "a", None, {}, 2**63 + 1))
    assert table["prediction"].to_pylist() == ["1", '"a"', None, "{}", str(2**63 + 1)]
    (table,) = tables(results({}, {}))
    assert table["prediction"].to_pylist() == ["{}", "{}"]


def test_a_part_of_nulls_alone_keeps_its_rows() -> None:
    """A column that is null in all parts stays a column."""
    (table,) = tables(results(None, None))
    assert table["prediction"].to_pylist() == [None, None]


def test_probabilities_are_a_struct_of_doubles() -> None:
    """Classes in the model's order, whatever their names sort like."""
    probabilities = ClassProbabilities(("z", "a"), [[0.25, 0.75], [1.0, 0.0]])
    (table,) = tables(([{"id": 1}, {"id": 2}], {"probabilities": probabilities}))
    kind = table.schema.field("probabilities").type
    assert [(f.name, f.type) for f in kind] == [("z", pa.float64()), ("a", pa.float64())]
    assert table["probabilities"].to_pylist() == [{"z": 0.25, "a": 0.75}, {"z": 1.0, "a": 0.0}]


def test_columns_that_appear_late_are_null_before() -> None:
    """A new key of JSON Lines or a new result makes a column in every part, inputs first."""
    first: Given = ([{"a": 1}], {"prediction": ["x"]})
    second: Given = ([{"a": 2, "b": 3}], {"prediction": ["y"], "note": ["n"]})
    read = tables(first, second)
    assert read[0].schema.names == ["a", "b", "prediction", "note"]
    assert [t.to_pylist() for t in read] == [
        [{"a": 1, "b": None, "prediction": "x", "note": None}],
        [{"a": 2, "b": 3, "prediction": "y", "note": "n"}],
    ]
    csv = parts_of(writer_for("csv", None), first, second)
    assert csv == [b"a,b,prediction,note\n1,,x,\n", b"a,b,prediction,note\n2,3,y,n\n"]


def test_an_input_column_named_like_a_result_is_kept() -> None:
    """It is called `input.prediction`; two columns never get one name."""
    row = {"prediction": "old", "input.prediction": "older", "input.x": 1}
    wanted = {
        "input.prediction": "old",
        "input.input.prediction": "older",
        "input.x": 1,
        "prediction": "new",
    }
    given: Given = ([row], {"prediction": ["new"]})
    (table,) = tables(given)
    assert table.to_pylist() == [wanted]
    assert json.loads(writer_for("jsonl", None).encode(*given)) == wanted
    assert writer_for("csv", None).encode(*given).splitlines()[0].decode() == ",".join(wanted)
    assert renamed_input("x", {"prediction"}) == "x"


def test_a_result_that_appears_late_renames_the_input_in_earlier_parts() -> None:
    """An input's `note` stays apart from a result `note` that only a later part has."""
    first: Given = ([{"note": "mine"}], {"prediction": ["x"]})
    second: Given = ([{"note": "mine"}], {"prediction": ["y"], "note": ["model's"]})
    for table, note in zip(tables(first, second), (None, "model's"), strict=True):
        assert table["input.note"].to_pylist() == ["mine"]
        assert table["note"].to_pylist() == [note]


def test_the_same_rows_give_the_same_bytes() -> None:
    """Parts hold no time, no random value and no trace of the machine."""
    for kind in ("parquet", "jsonl", "csv"):
        one, two = (writer_for(kind, None).encode(*results("a", None, "b")) for _ in range(2))  # type: ignore[arg-type]
        assert one == two


def test_arrow_columns_keep_their_types() -> None:
    """What was read as Parquet is written with its own types, also when the part is widened."""
    given = pa.table(
        {
            "s": pa.array([1], pa.timestamp("s")),
            "d": pa.array(["x"]).dictionary_encode(),
            "u": pa.array([1], pa.uint8()),
            "l": pa.array([[1]], pa.large_list(pa.int8())),
        }
    )
    writer = writer_for("parquet", given.schema)
    old = writer.encode(given, {"prediction": [None]}), writer.layout
    new = writer.encode(given, {"prediction": ["a"]})
    read = [pq.read_table(pa.BufferReader(p)) for p in (writer.widen(*old), new)]
    assert read[0].schema.equals(read[1].schema)
    assert read[0].schema.types[1:4] == given.schema.types[1:]
    text = json.loads(writer_for("jsonl", given.schema).encode(given, {"prediction": ["a"]}))
    assert text == {"s": "1970-01-01T00:00:01", "d": "x", "u": 1, "l": [1], "prediction": "a"}


def test_csv_cells_are_quoted_where_they_must_be() -> None:
    """Delimiters, quotes and all line ends are quoted; probabilities have a column per class."""
    row = {"a": 'x,"y"', "b": "1\r2\n3", "c": None, "d": True, "e": [1], "f": 0.1}
    found: dict[str, Sequence[Any]] = {
        "prediction": ["é"],
        "probabilities": ClassProbabilities(("p", "q"), [[0.25, 0.75]]),
        "top": [{"k": 1}],
    }
    data = writer_for("csv", None).encode([row], found)
    assert data.decode() == (
        "a,b,c,d,e,f,prediction,probabilities.p,probabilities.q,top.k\n"
        '"x,""y""","1\r2\n3",,true,[1],0.1,é,0.25,0.75,1\n'
    )


def test_csv_parts_with_long_cells_can_be_widened() -> None:
    """A cell may be longer than the csv module's own limit."""
    first: Given = ([{"a": "x" * 200_000}], {"prediction": [1]})
    second: Given = ([{"a": "y"}], {"prediction": [2], "note": ["n"]})
    wide, _ = parts_of(writer_for("csv", None), first, second)
    assert wide.decode() == "a,prediction,note\n" + "x" * 200_000 + ",1,\n"


def test_a_value_that_no_file_can_hold_is_an_error() -> None:
    """A lone surrogate is refused, and the layout stays what it was."""
    for kind in ("parquet", "jsonl", "csv"):
        writer = writer_for(kind, None)  # type: ignore[arg-type]
        writer.encode(*results("a"))
        before = writer.layout
        with pytest.raises((TypeError, UnicodeEncodeError)):
            writer.encode([{"id": 1}], {"prediction": ["\ud800"], "new": [1]})
        assert writer.layout == before
