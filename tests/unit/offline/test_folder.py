"""Tests of `salver.offline.folder`."""

import os
from pathlib import Path

import pytest

from salver.errors import InvalidOption, OfflineError, OutputExists, OutputInUse
from salver.offline.folder import held, local_folder


def test_a_local_folder_may_be_a_uri(tmp_path: Path) -> None:
    """file:// is local; another filesystem is refused with the way out."""
    assert local_folder(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert local_folder("x").is_absolute()
    with pytest.raises(InvalidOption, match=r"s3://bucket/out.*local disk"):
        local_folder("s3://bucket/out")


def test_a_second_writer_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    """The lock is taken at once or not at all, and is gone afterwards."""
    with held(tmp_path / "out"), pytest.raises(OutputInUse, match=str(os.getpid())):
        held(tmp_path / "out").__enter__()
    with held(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path / "out") == []


def test_a_lock_left_by_a_killed_process_holds_nobody(tmp_path: Path) -> None:
    """The file alone is no lock."""
    (tmp_path / ".lock").write_text("999999999 and more")
    with held(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_files_of_others_are_never_touched(tmp_path: Path) -> None:
    """A folder with other files is refused, also for clearing; hidden files do not count."""
    (tmp_path / ".DS_Store").write_text("")
    with held(tmp_path) as folder:
        folder.begin()
        (tmp_path / "mine.txt").write_text("")
        with pytest.raises(OutputExists, match=r"mine\.txt.*Nothing was deleted"):
            folder.clear()
        assert (tmp_path / "mine.txt").exists()
    (tmp_path / "_INCOMPLETE").unlink()
    with pytest.raises(OutputExists, match=r"mine\.txt"):
        held(tmp_path).__enter__()
    with pytest.raises(OutputExists, match="is a file"):
        held(tmp_path / "mine.txt").__enter__()


def test_clearing_deletes_what_a_job_wrote(tmp_path: Path) -> None:
    """Parts, quarantine, temporary files, manifest and journal go; the mark stays."""
    with held(tmp_path) as folder:
        folder.begin()
        for name in ("part-00000.csv", "_quarantine/part-00000.jsonl", "_manifest.json"):
            folder.write(name, b"x")
        (tmp_path / ".tmp-part-00001.csv").write_text("")
        folder.finish()
        assert folder.finished
        folder.clear()
        assert not folder.finished and folder.begun
        assert sorted(os.listdir(tmp_path)) == [".lock", "_INCOMPLETE"]


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk refuses, the file stays as it was, and the error says how to go on."""
    with held(tmp_path) as folder:
        written = folder.write("part-00000.csv", b"old")
        assert folder.holds(written) and folder.holds(None)

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(OfflineError, match=r"No space left.*--resume"):
                folder.write("part-00000.csv", b"new")
        assert folder.read("part-00000.csv") == b"old"
        (tmp_path / "part-00000.csv").write_bytes(b"odd")
        assert not folder.holds(written)
        folder.remove_all_but(set())
        assert not folder.holds(written)
        assert os.listdir(tmp_path) == [".lock"]
