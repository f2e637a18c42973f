"""Rows to judge on and rows to calibrate on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from salver import deployment
from salver.errors import ConfigError
from salver.offline.labelled import read
from salver.optimization.rows import divided


class Text(BaseModel):
    text: str


class Model:
    def __call__(self, batch: Any) -> Any:
        return batch["text"]


def rows(tmp_path: Path, texts: list[str], name: str = "rows.csv") -> Any:
    """The rows of a file of texts and their labels, as they are read."""
    path = tmp_path / name
    path.write_text("text,tag\n" + "".join(f"{text},{text[0]}\n" for text in texts))
    bound: Any = deployment(input=Text)(Model)
    return read(str(path), bound.bind())


def texts_of(given: Any) -> list[str]:
    return [row[0] for row in given.batch.rows]


def test_no_row_is_in_both(tmp_path: Path) -> None:
    """Nor is an equal of one, however often it is in the file."""
    given = rows(tmp_path, [f"t{i % 300}" for i in range(600)])
    judged, calibration = divided(given, None)
    assert not set(texts_of(judged)) & set(texts_of(calibration))
    assert 200 == len(calibration.given)


def test_the_same_file_is_divided_in_the_same_way(tmp_path: Path) -> None:
    """Or a second run could be told another thing."""
    given = rows(tmp_path, [f"t{i}" for i in range(400)])
    assert divided(given, None) == divided(given, None)


def test_rows_for_calibration_may_be_given(tmp_path: Path) -> None:
    """Then all held-out rows are judged on, but for those that are in both."""
    given = rows(tmp_path, [f"t{i}" for i in range(150)])
    others = rows(tmp_path, ["t3", *(f"u{i}" for i in range(500))], "others.csv")
    judged, calibration = divided(given, others)
    assert 320 == len(calibration.given)
    assert len(judged.given) in (149, 150)
    assert ("t3" in texts_of(calibration)) == ("t3" not in texts_of(judged))


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    """With how many there are, and what to do."""
    given = rows(tmp_path, [f"t{i}" for i in range(120)])
    with pytest.raises(ConfigError, match=r"80 rows are left.*at least 100.*--calibrate-on"):
        divided(given, None)
