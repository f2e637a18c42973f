"""Tests of `salver.offline.journal`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from salver.errors import ManifestMismatch
from salver.offline.folder import JOURNAL, OutputFolder, held
from salver.offline.journal import Entry, Journal, as_plain_json, refuse_other
from salver.offline.layout import Layout
from salver.offline.rows import Cursor

IDENTITY: dict[str, Any] = {
    "version": "v1",
    "plan": {"policies": ["Threshold(0.9)"]},
    "input": [{"file": "a.csv", "bytes": 1, "sha256": "aa"}],
}
NARROW = Layout(pa.schema([("id", pa.int64())]), pa.schema([("prediction", pa.null())]))
WIDE = NARROW.joined(NARROW.inputs, pa.schema([("prediction", pa.string())]))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[OutputFolder]:
    with held(tmp_path) as folder:
        yield folder


def committed(folder: OutputFolder, journal: Journal, chunk: int, layout: Layout) -> Entry:
    part = folder.write(f"part-{chunk:05d}.csv", b"part %d" % chunk)
    quarantine = folder.write(f"_quarantine/part-{chunk:05d}.jsonl", b"bad")
    entry = Entry(
        chunk, Cursor(0, chunk, chunk, 9), 3, 1, {"model_error": 1}, 0, part, quarantine, layout
    )
    journal.commit(entry)
    return entry


def test_a_journal_is_read_back(folder: OutputFolder) -> None:
    """Entries come back as they were, also through a second resume."""
    journal = Journal.start(folder, IDENTITY)
    entries = [
        committed(folder, journal, i, layout) for i, layout in enumerate([NARROW, NARROW, WIDE])
    ]
    for _ in range(2):
        again = Journal.resume(folder, IDENTITY)
        assert again.entries == entries
        assert again.files() == {
            w["file"] for e in entries for w in (e.part, e.quarantine) if w is not None
        }


def test_a_torn_line_does_not_count(folder: OutputFolder) -> None:
    """What a crash left of the last line is dropped, and writing goes on after it."""
    journal = Journal.start(folder, IDENTITY)
    first = committed(folder, journal, 0, NARROW)
    whole = folder.read(JOURNAL)
    committed(folder, journal, 1, NARROW)
    torn = folder.read(JOURNAL)
    for cut in range(len(whole), len(torn)):
        folder.write(JOURNAL, torn[:cut])
        again = Journal.resume(folder, IDENTITY)
        assert again.entries == [first]
        assert folder.read(JOURNAL) == whole


@pytest.mark.parametrize("name", ["part-00001.csv", "_quarantine/part-00001.jsonl"])
@pytest.mark.parametrize("damage", [b"", b"tampered", None])
def test_a_file_that_is_not_what_the_journal_says_ends_the_trust(
    folder: OutputFolder, name: str, damage: bytes | None
) -> None:
    """Its chunk and all after it are done again."""
    journal = Journal.start(folder, IDENTITY)
    entries = [committed(folder, journal, i, NARROW) for i in range(3)]
    if damage is None:
        (folder.path / name).unlink()
    else:
        (folder.path / name).write_bytes(damage)
    assert Journal.resume(folder, IDENTITY).entries == entries[:1]


def test_a_part_is_trusted_before_and_after_it_is_widened(folder: OutputFolder) -> None:
    """The job may be killed between the line in the journal and the new part."""
    journal = Journal.start(folder, IDENTITY)
    entries = [committed(folder, journal, 0, NARROW), committed(folder, journal, 1, WIDE)]
    name = "part-00000.csv"
    journal.widen(0, folder.described(name, b"wider"), WIDE)
    again = Journal.resume(folder, IDENTITY)
    assert again.entries == entries
    assert again.present(entries[0]) == (entries[0].part, NARROW)
    again.widen(0, folder.write(name, b"wider"), WIDE)
    for _ in range(2):
        again = Journal.resume(folder, IDENTITY)
        assert again.entries == entries
        assert again.present(entries[0]) == (folder.described(name, b"wider"), WIDE)
    assert again.present(entries[1]) == (entries[1].part, WIDE)


def test_another_job_is_refused_by_what_differs() -> None:
    """The message names each difference with both values, and nothing else."""
    other = as_plain_json(IDENTITY) | {"version": "v2", "input": [{"file": "b.csv"}]}
    with pytest.raises(ManifestMismatch) as raised:
        refuse_other(IDENTITY, other)
    message = raised.value.message
    assert "version (started with 'v1', now 'v2')" in message
    assert "input.a.csv.sha256 (started with 'aa', now 'nothing')" in message
    assert "plan" not in message
    refuse_other(IDENTITY, as_plain_json(IDENTITY))


def test_a_folder_without_a_readable_start_is_another_job(folder: OutputFolder) -> None:
    """A journal that is empty matches nothing."""
    folder.write(JOURNAL, b"")
    with pytest.raises(ManifestMismatch):
        Journal.resume(folder, IDENTITY)


def test_entries_hold_what_they_are_given(folder: OutputFolder) -> None:
    """A chunk without a part or without failures has null in their place."""
    journal = Journal.start(folder, IDENTITY)
    entry = replace(committed(folder, journal, 0, NARROW), chunk=1, part=None, quarantine=None)
    journal.commit(entry)
    assert Journal.resume(folder, IDENTITY).entries[1] == entry
