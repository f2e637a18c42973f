"""Labelled rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from salver import deployment
from salver.errors import ConfigError, InputUnreadable
from salver.offline.labelled import chosen_label, label_column, read


class Text(BaseModel):
    text: str


class Model:
    def __call__(self, batch: Any) -> Any:
        return batch["text"]


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
