from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

import pytest

from salver import Checkpoint
from salver.errors import CheckpointCorrupt, CheckpointError, TrackingUnavailable
from salver.models.cache import CheckpointCache, Record
from salver.models.manifest import Manifest

SOURCE = "runs:/abc/checkpoint"


class Origin:
    """A checkpoint elsewhere, which counts what is fetched from it."""

    def __init__(self, path: Path) -> None:
        (path / "tokenizer").mkdir(parents=True)
        (path / "model.pt").write_bytes(b"weights")
        (path / "tokenizer" / "vocab.txt").write_text("a b")
        self.path = path
        self.checkpoint = Checkpoint.create(path, {"run_id": "abc"})
        self.manifest = Manifest(self.checkpoint.files, self.checkpoint.metadata)
        self.fetched: list[str] = []

    def fetch(self, name: str, destination: Path, size: int) -> None:
        """As `ArtifactFolder.fetch`."""
        self.fetched.append(name)
        assert size == (self.path / name).stat().st_size
        shutil.copyfile(self.path / name, destination)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    """A checkpoint elsewhere."""
    return Origin(tmp_path / "origin")


@pytest.fixture
def cache(tmp_path: Path) -> CheckpointCache:
    """An empty cache."""
    return CheckpointCache(tmp_path / "deep" / "cache")


def leftovers(cache: CheckpointCache) -> list[str]:
    """What lies in the staging area."""
    return os.listdir(cache.root / "staging")


def test_a_checkpoint_is_fetched_once(cache: CheckpointCache, origin: Origin) -> None:
    """The second time, and in a second object, the copy is used."""
    first = cache.put(origin.manifest, origin.fetch, SOURCE)
    second = CheckpointCache(cache.root).put(origin.manifest, origin.fetch, SOURCE)

    assert first == second
    assert first.path == cache.root / "checkpoints" / origin.checkpoint.digest
    assert first.source == SOURCE
    assert sorted(origin.fetched) == ["model.pt", "tokenizer/vocab.txt"]
    assert leftovers(cache) == []


def test_what_was_never_fetched_is_not_there(cache: CheckpointCache) -> None:
    """An unknown digest is null, in an empty cache too."""
    assert cache.get("0" * 64, SOURCE) is None


def test_a_changed_copy_is_refused_and_replaced(
    cache: CheckpointCache, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy that was changed is never returned; asked for with an origin, it is mended."""
    copy = cache.put(origin.manifest, origin.fetch, SOURCE)
    copy.file("model.pt").write_bytes(b"wEights")

    with pytest.raises(CheckpointCorrupt, match=r"model\.pt"):
        cache.get(copy.digest, SOURCE)
    with caplog.at_level(logging.WARNING):
        assert copy == cache.put(origin.manifest, origin.fetch, SOURCE)
    assert copy.file("model.pt").read_bytes() == b"weights"
    assert "will be fetched again" in caplog.text


def test_a_second_name_for_a_cached_file_is_refused(
    cache: CheckpointCache, origin: Origin, tmp_path: Path
) -> None:
    """Through a hard link a verified file could be changed later."""
    copy = cache.put(origin.manifest, origin.fetch, SOURCE)
    os.link(copy.file("model.pt"), tmp_path / "second-name")

    with pytest.raises(CheckpointError, match="hard link"):
        cache.get(copy.digest, SOURCE)


@pytest.mark.parametrize("damage", ["flip", "truncate", "link"])
def test_a_damaged_origin_leaves_nothing(
    cache: CheckpointCache, origin: Origin, damage: str
) -> None:
    """What arrives and is not what the manifest says never becomes visible."""

    def fetch(name: str, destination: Path, size: int) -> None:
        origin.fetch(name, destination, size)
        if name == "model.pt" and damage == "flip":
            destination.write_bytes(b"wEights")
        elif name == "model.pt" and damage == "truncate":
            os.truncate(destination, size - 1)
        elif name == "model.pt":
            destination.unlink()
            destination.symlink_to(origin.path / name)

    with pytest.raises(CheckpointCorrupt, match=f"What {SOURCE} delivers is not"):
        cache.put(origin.manifest, fetch, SOURCE)
    assert cache.get(origin.checkpoint.digest, SOURCE) is None
    assert leftovers(cache) == []


def test_a_fetch_that_fails_leaves_nothing(cache: CheckpointCache, origin: Origin) -> None:
    """An origin that stops answering halfway leaves an empty staging area, and the next try works."""

    def fetch(name: str, destination: Path, size: int) -> None:
        if origin.fetched:
            raise TrackingUnavailable("gone")
        origin.fetch(name, destination, size)

    with pytest.raises(TrackingUnavailable):
        cache.put(origin.manifest, fetch, SOURCE)
    assert cache.get(origin.checkpoint.digest, SOURCE) is None
    assert leftovers(cache) == []
    assert cache.put(origin.manifest, origin.fetch, SOURCE)


def test_a_full_disk_leaves_nothing(cache: CheckpointCache, origin: Origin) -> None:
    """A disk that fills up halfway is an error that says what to do, and half a file is removed."""

    def fetch(name: str, destination: Path, size: int) -> None:
        destination.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left on device.*Free space"):
        cache.put(origin.manifest, fetch, SOURCE)
    assert leftovers(cache) == []


def test_what_a_killed_fetch_left_is_thrown_away(cache: CheckpointCache, origin: Origin) -> None:
    """Half a download of an earlier process is not taken for anything."""
    staging = cache.root / "staging" / origin.checkpoint.digest
    staging.mkdir(parents=True)
    (staging / "model.pt").write_bytes(b"wei")
    (staging / "stranger").touch()

    assert cache.put(origin.manifest, origin.fetch, SOURCE)
    assert leftovers(cache) == []


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path, origin: Origin) -> None:
    """A file in the place of the cache is an error that names the setting."""
    (tmp_path / "file").touch()

    with pytest.raises(CheckpointError, match="set SALVER_CACHE_DIR"):
        CheckpointCache(tmp_path / "file" / "cache").put(origin.manifest, origin.fetch, SOURCE)


def test_a_reference_is_remembered(cache: CheckpointCache) -> None:
    """The last meaning of a reference is kept under a name that shows nothing of it."""
    key = "models:/tagger@champion at http://me:hunter2@mlflow"
    for digest in ("1" * 64, "2" * 64):
        cache.remember(key, Record(digest, SOURCE, "2026-01-01T00:00:00+00:00"))

    assert Record("2" * 64, SOURCE, "2026-01-01T00:00:00+00:00") == cache.recall(key)
    assert cache.recall("another") is None
    (file,) = (cache.root / "references").iterdir()
    assert "hunter2" not in file.name + file.read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"digest": "x", "other": 1}'])
def test_a_damaged_record_is_not_used(
    cache: CheckpointCache, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    """A record that is not readable counts as none, with a warning."""
    cache.remember("key", Record("1" * 64, SOURCE, "now"))
    (file,) = (cache.root / "references").iterdir()
    file.write_text(content)

    with caplog.at_level(logging.WARNING):
        assert cache.recall("key") is None
    assert "is not used" in caplog.text


def test_a_cache_that_cannot_remember_still_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache baked into an image may be read-only: a warning, no error."""
    (tmp_path / "file").touch()

    with caplog.at_level(logging.WARNING):
        CheckpointCache(tmp_path / "file").remember("key", Record("1" * 64, SOURCE, "now"))
    assert "cannot remember" in caplog.text
