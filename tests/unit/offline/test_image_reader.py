"""Folders of images: a row per file, in the one field that holds bytes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from pydantic import Base64Bytes, BaseModel

from salver.errors import InputUnreadable, MissingColumns
from salver.models.signature import Signature
from salver.offline.csv_records import MAX_ROW_BYTES
from salver.offline.readers import open_reader
from salver.offline.rows import Cursor
from salver.offline.sources import find
from salver.schema import Schema
from salver.types import Failure

IMAGES = {"cats/a.png": b"\x89PNG 1", "cats/b.JPG": b"\xff\xd8 2", "c.webp": b"RIFF 3"}


class Picture(BaseModel):
    image: Base64Bytes
    size: int = 3


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for name, data in IMAGES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return str(tmp_path)


def test_each_file_is_a_row(folder: str) -> None:
    """By name order; the output says which file it was."""
    reader = open_reader(find(folder), Schema(Picture), fill_defaults=True)
    blocks = list(reader.blocks(Cursor()))
    names = sorted(IMAGES)
    assert [[{"file": name}] for name in names] == [block.given for block in blocks]
    rows = [block.checked[0] for block in blocks]
    assert [(base64.b64encode(IMAGES[name]).decode(), 3) for name in names] == rows


def test_a_field_of_mlflows_type_binary_will_do(folder: str) -> None:
    """Optional ones too."""
    given = [{"type": "binary", "name": "picture", "required": False}]
    schema = Schema(Signature.load(given, "here").row_model("Row"))
    reader = open_reader(find(folder), schema, fill_defaults=True)
    assert 3 == len(list(reader.blocks(Cursor())))


def test_reading_goes_on_where_it_ended(folder: str) -> None:
    """After each file, whatever was done before."""
    reader = open_reader(find(folder), Schema(Picture), fill_defaults=True)
    first, second, third = reader.blocks(Cursor())
    assert [second.file, third.file] == [b.file for b in reader.blocks(first.end)]
    assert [] == list(reader.blocks(third.end))


def test_a_model_without_such_a_field_is_told_what_it_needs(folder: str) -> None:
    """Before any file is read."""

    class Text(BaseModel):
        text: str

    with pytest.raises(MissingColumns, match=r"Text that holds bytes as base64.*has none"):
        open_reader(find(folder), Schema(Text))


def test_other_fields_need_their_defaults_allowed(folder: str) -> None:
    """As for columns that a table lacks."""
    with pytest.raises(MissingColumns, match=r"lacks 'size'.*--fill-defaults"):
        open_reader(find(folder), Schema(Picture))


def test_an_image_that_is_too_large_is_a_bad_row(tmp_path: Path) -> None:
    """And is not read."""
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_ROW_BYTES + 1)
    reader = open_reader(find(str(tmp_path)), Schema(Picture), fill_defaults=True)
    (block,) = reader.blocks(Cursor())
    assert isinstance(block.checked[0], Failure)
    assert "large.png" in block.checked[0].message


def test_images_and_tables_do_not_mix(folder: str) -> None:
    """Which of them is meant is for the user to say."""
    (Path(folder) / "rows.csv").write_text("image\n")
    with pytest.raises(InputUnreadable, match=r"several formats: csv .*image"):
        find(folder)
