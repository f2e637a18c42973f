"""Labelled rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from salver import deployment
from salver.errors import ConfigError, InputUnreadable, MissingColumns
from salver.offline.labelled import chosen_label, label_column, read


class Text(BaseModel):
    text: str


class Model:
    def __call__(self, batch: Any) -> Any:
        return batch["text"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str


class Noted(BaseModel):
    text: str
    note: str = "none"


BOUND: Any = deployment(input=Text)(Model).bind()  # type: ignore[attr-defined]


def rows(tmp_path: Path, texts: list[str]) -> Any:
    """The rows of a file of texts and their labels, as they are read."""
    path = tmp_path / "rows.csv"
    path.write_text("text,tag\n" + "".join(f"{text},{text[0]}\n" for text in texts))
    return read(str(path), BOUND)


def test_a_file_without_a_row_that_fits_is_refused(tmp_path: Path) -> None:
    """It would judge nothing."""
    with pytest.raises(InputUnreadable, match="No row"):
        rows(tmp_path, [])


def test_the_column_of_labels_is_found(tmp_path: Path) -> None:
    """It is the only one beyond the input with nothing but classes in it."""
    given = rows(tmp_path, [f"{'ab'[i % 2]}{i}" for i in range(10)])
    assert "tag" == label_column(given, ("text",), ("a", "b", "c"))
    assert "" == label_column(given, ("text",), ("a", "c"))
    assert ("a", "b") == given.labels("tag")[:2]


def test_a_label_that_is_named_is_taken(tmp_path: Path) -> None:
    """Also if some of its values are no classes; what is no label at all is refused."""
    given = rows(tmp_path, [f"{'ab'[i % 2]}{i}" for i in range(10)])
    assert "tag" == chosen_label(given, "tag", "rows.csv", BOUND, ("a", "c"))
    assert "" == chosen_label(given, None, "rows.csv", BOUND, ("a", "c"))
    with pytest.raises(ConfigError, match=r"no column 'label' in rows\.csv; it has text, tag"):
        chosen_label(given, "label", "rows.csv", BOUND, ("a",))
    with pytest.raises(ConfigError, match="is a class of Model"):
        chosen_label(given, "text", "rows.csv", BOUND, ("a", "b"))
    with pytest.raises(ConfigError, match="gives no probabilities"):
        chosen_label(given, "tag", "rows.csv", BOUND, ())


def test_missing_labels_are_no_labels(tmp_path: Path) -> None:
    """Nor do they hide the column; whole numbers beside them are read as floats, and are meant."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "a", "tag": 1.0}\n{"text": "b", "tag": null}\n{"text": "c", "tag": 0.0}'
    )
    given = read(str(path), BOUND)
    assert ("1", "", "0") == given.labels("tag")
    assert "tag" == label_column(given, ("text",), ("0", "1"))
    assert "" == label_column(given, ("text", "tag"), ("0", "1"))


def test_columns_with_a_default_may_be_absent_if_that_is_said(tmp_path: Path) -> None:
    """Else they are a mistake, and the message names what would allow it."""
    path = tmp_path / "rows.csv"
    path.write_text("text,tag\none,a\ntwo,b\n")
    bound: Any = deployment(input=Noted)(Model)
    with pytest.raises(MissingColumns, match="--fill-defaults"):
        read(str(path), bound.bind())
    given = read(str(path), bound.bind(), fill_defaults=True)
    assert [("one", "none"), ("two", "none")] == given.batch.rows
    assert ("a", "b") == given.labels("tag")


def test_rows_that_do_not_fit_are_counted_and_said(tmp_path: Path) -> None:
    """Once for a file, with where the first one stands and why; parts of the rows know it too."""
    path = tmp_path / "rows.jsonl"
    good = [f'{{"text": "t{i}"}}' for i in range(10_500)]  # more than are read at once
    path.write_text("\n".join([*good[:7], '{"text": 5}', *good[7:], '{"title": "x"}', "{"]))
    said: list[str] = []
    given = read(str(path), BOUND, say=said.append)
    assert [
        f"3 of 10,503 rows of {path} do not fit the input of Model, and are left out: the first, file "
        "rows.jsonl, row 7, line 8: text: Input should be a valid string"
    ] == said
    assert (10_500, 3) == (len(given.given), given.unfit)
    assert 3 == given.take([5, 1]).unfit
    assert ["t7"] == [row["text"] for row in given.take([7]).given]


def test_nothing_is_said_of_a_file_whose_rows_all_fit(tmp_path: Path) -> None:
    """Nor is anything counted."""
    path = tmp_path / "rows.csv"
    path.write_text("text\na\n")
    said: list[str] = []
    assert 0 == read(str(path), BOUND, say=said.append).unfit
    assert [] == said


def test_a_file_of_which_no_row_fits_says_why_the_first_does_not(tmp_path: Path) -> None:
    """However long the reason is, the message stays short."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": 5}\n{"text": 6}')
    with pytest.raises(InputUnreadable, match=r"No row .* row 0, line 1: text: Input should be"):
        read(str(path), BOUND)
    path.write_text('{"text": 5, ' + ", ".join(f'"key{i}": 1' for i in range(900)) + "}")
    strict: Any = deployment(input=Strict)(Model)
    with pytest.raises(InputUnreadable) as refused:
        read(str(path), strict.bind())
    assert 600 > len(refused.value.message) - len(str(path))
