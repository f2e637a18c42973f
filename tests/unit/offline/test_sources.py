"""Tests of `salver.offline.sources`."""

from pathlib import Path

import pytest

from salver.errors import InputUnreadable
from salver.offline.sources import find


def names(given: Path | str) -> list[str]:
    return [f.name for f in find(str(given)).files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.csv", "_c.csv", ".d.csv", "sub/e.csv", "_sub/f.csv", "x[1].csv"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("title\n")
    return tmp_path / "in"


def test_a_folder_is_all_files_below_it(folder: Path) -> None:
    """In the order of their paths; names that start with `_` or `.` are skipped."""
    assert names(folder) == ["a.csv", "b.csv", "sub/e.csv", "x[1].csv"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.csv", ["a.csv", "b.csv", "x[1].csv"]),
        ("[ab].csv", ["a.csv", "b.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "sub/e.csv", "x[1].csv"]),
        ("*/*.csv", ["sub/e.csv"]),
        ("_*.csv", ["_c.csv"]),
    ],
)
def test_a_glob_chooses_files(folder: Path, pattern: str, found: list[str]) -> None:
    """`*` stays within a folder, `**` does not; a literal name wins over a pattern."""
    assert names(f"{folder}/{pattern}") == found
    assert names(folder / "x[1].csv") == ["x[1].csv"]


def test_a_uri_is_an_input(folder: Path) -> None:
    """Any filesystem that pyarrow knows by URI, with globs too."""
    assert names(f"file://{folder}/a.csv") == ["a.csv"]
    assert names(f"file://{folder}/*.csv") == ["a.csv", "b.csv", "x[1].csv"]


def test_no_file_is_an_error_with_the_nearest_name(folder: Path) -> None:
    """A path without a file says so, and what stands beside it."""
    with pytest.raises(InputUnreadable, match=r"no such file or folder. Beside it stands 'b\.csv'"):
        find(str(folder / "bb.csv"))
    with pytest.raises(InputUnreadable, match="leads to no file"):
        find(f"{folder}/*.parquet")
    with pytest.raises(InputUnreadable, match="cannot be reached"):
        find("nosuch://x/y.csv")


def test_a_folder_has_one_format(folder: Path) -> None:
    """Two formats, or an unknown one, are refused with the way out."""
    (folder / "z.jsonl").write_text("{}")
    with pytest.raises(InputUnreadable, match=r"csv \(.*jsonl \(z.jsonl\).*glob"):
        find(str(folder))
    (folder / "z.jsonl").rename(folder / "z.txt")
    with pytest.raises(InputUnreadable, match=r"z\.txt has no known format"):
        find(str(folder))


def test_outputs_of_jobs_are_no_input_by_accident(folder: Path) -> None:
    """A finished output below a folder is skipped; an unfinished one is refused as an input."""
    output = folder / "out"
    output.mkdir()
    (output / "part-00000.csv").write_text("title\n")
    (output / "_manifest.json").write_text("{}")
    assert "out/part-00000.csv" not in names(folder)
    assert names(output) == ["part-00000.csv"]
    (output / "_INCOMPLETE").write_text("")
    with pytest.raises(InputUnreadable, match="not finished"):
        find(str(output))


def test_a_fingerprint_changes_with_the_content(folder: Path) -> None:
    """Local files are known by their digest; a change while reading is noticed."""
    source = find(str(folder / "a.csv"))
    (before,) = source.fingerprint()
    assert before["file"] == "a.csv" and before["bytes"] == 6 and len(before["sha256"]) == 64
    source.refuse_changed()
    (folder / "a.csv").write_text("other\n")
    assert source.fingerprint() != [before]
    with pytest.raises(InputUnreadable, match=r"a\.csv was changed"):
        source.refuse_changed()
