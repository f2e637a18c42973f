from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from salver import Checkpoint
from salver.errors import CheckpointCorrupt, CheckpointError, UnsafePath

METADATA = {
    "class_to_index": {"other": 1, "mlops": 0},
    "metrics": {"val_loss": 0.25},
    "run_id": "abc",
    "examples": [{"input": {"title": "x"}, "prediction": "mlops"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three files, one of them deeper and one of them empty."""
    path = tmp_path / "checkpoint"
    (path / "tokenizer").mkdir(parents=True)
    (path / "model.pt").write_bytes(bytes(range(200)))
    (path / "tokenizer" / "vocab.txt").write_text("a b c")
    (path / "empty").touch()
    return path


def test_a_checkpoint_opens_as_it_was_created(folder: Path) -> None:
    """Creating and opening give one checkpoint with one digest, files and metadata."""
    created = Checkpoint.create(folder, METADATA)
    opened = Checkpoint.open(folder, created.digest, source="runs:/abc/checkpoint")

    assert created == opened
    assert opened.metadata == METADATA
    assert sorted(opened.files) == ["empty", "model.pt", "tokenizer/vocab.txt"]
    assert opened.source == "runs:/abc/checkpoint"
    assert str(folder) == os.fspath(opened)


def test_the_manifest_is_as_documented(folder: Path) -> None:
    """manifest.json holds format version, hash and size of each file, metadata and digest."""
    created = Checkpoint.create(folder, METADATA)
    content = json.loads((folder / "manifest.json").read_text())

    assert content["format_version"] == 1
    assert {"bytes": 0, "sha256": created.files["empty"].sha256} == content["files"]["empty"]
    assert content["metadata"] == METADATA
    assert created.digest == content["digest"]


def test_creating_again_takes_changes_up(folder: Path) -> None:
    """A second create replaces the manifest, and leaves nothing else behind."""
    first = Checkpoint.create(folder)
    (folder / "model.pt").write_bytes(b"new")
    second = Checkpoint.create(folder)

    assert first.digest != second.digest
    assert second == Checkpoint.open(folder)
    assert sorted(os.listdir(folder)) == ["empty", "manifest.json", "model.pt", "tokenizer"]


def test_one_flipped_byte_in_any_file_is_refused(folder: Path) -> None:
    """Each byte of each file is covered; the error names the file and what to do."""
    Checkpoint.create(folder, METADATA)
    for name in ("model.pt", "tokenizer/vocab.txt"):
        good = (folder / name).read_bytes()
        for position in range(len(good)):
            bad = bytearray(good)
            bad[position] ^= 1
            (folder / name).write_bytes(bad)
            with pytest.raises(CheckpointCorrupt, match=f"'{name}' .* sha256 .* again"):
                Checkpoint.open(folder)
        (folder / name).write_bytes(good)


def test_one_flipped_byte_in_the_manifest_is_refused(folder: Path) -> None:
    """The manifest vouches for itself, with or without a digest from elsewhere."""
    digest = Checkpoint.create(folder, METADATA).digest
    good = (folder / "manifest.json").read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1
        (folder / "manifest.json").write_bytes(bad)
        for wanted in (None, digest):
            with pytest.raises(CheckpointError):
                Checkpoint.open(folder, wanted)


@pytest.mark.parametrize("length", [0, 1, 199])
def test_a_truncated_file_is_refused_by_its_size(folder: Path, length: int) -> None:
    """A short file is refused before anything is hashed."""
    Checkpoint.create(folder)
    os.truncate(folder / "model.pt", length)

    with pytest.raises(CheckpointCorrupt, match=rf"'model.pt' .* has {length} bytes.* 200"):
        Checkpoint.open(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    """Each missing file is named."""
    Checkpoint.create(folder)
    (folder / "model.pt").unlink()
    (folder / "empty").unlink()

    with pytest.raises(CheckpointCorrupt, match=r"lacks 'empty', 'model.pt'"):
        Checkpoint.open(folder)


def test_an_added_file_is_refused(folder: Path) -> None:
    """What the manifest does not list could change answers, so it may not be there."""
    Checkpoint.create(folder)
    (folder / "tokenizer" / "config.json").write_text("{}")

    with pytest.raises(CheckpointCorrupt, match=r"holds 'tokenizer/config.json'.*Remove"):
        Checkpoint.open(folder)


def test_another_digest_is_refused(folder: Path) -> None:
    """A checkpoint that is sound but not the wanted one is refused."""
    created = Checkpoint.create(folder)

    with pytest.raises(CheckpointCorrupt, match=f"{created.digest}, but {'0' * 64} is wanted"):
        Checkpoint.open(folder, "0" * 64)


def test_a_folder_without_manifest_says_how_to_make_one(folder: Path) -> None:
    """A bare folder of weights is no checkpoint yet."""
    with pytest.raises(CheckpointError, match=r"Checkpoint\.create\(directory, metadata\)"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A missing path or a file is neither opened nor created as a checkpoint."""
    (tmp_path / "file").touch()

    with pytest.raises(CheckpointError, match="no checkpoint at"):
        Checkpoint.open(tmp_path / name)
    with pytest.raises(CheckpointError, match="no folder"):
        Checkpoint.create(tmp_path / name)


@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "manifest", "fifo"])
@pytest.mark.timeout(10)
def test_a_link_or_a_fifo_is_refused_at_both_ends(folder: Path, kind: str) -> None:
    """Nothing but regular files is hashed at creation or read at opening, and nothing hangs."""
    Checkpoint.create(folder)
    victim = folder / ("manifest.json" if kind == "manifest" else "model.pt")
    outside = folder.parent / "outside"
    if kind == "folder":
        victim = folder / "tokenizer"
        victim.rename(outside)
    elif kind != "dangling":
        outside.write_bytes(victim.read_bytes())
    if kind != "folder":
        victim.unlink()
    if kind == "fifo":
        os.mkfifo(victim)
    else:
        victim.symlink_to(outside)

    with pytest.raises(UnsafePath):
        Checkpoint.open(folder)
    with pytest.raises(UnsafePath):
        Checkpoint.create(folder)


def test_creating_never_writes_through_a_link(folder: Path) -> None:
    """A link in the manifest's place is refused, and what it leads to stays as it was."""
    outside = folder.parent / "outside"
    outside.write_text("precious")
    (folder / "manifest.json").symlink_to(outside)

    with pytest.raises(UnsafePath):
        Checkpoint.create(folder)
    assert outside.read_text() == "precious"


def test_hard_links_are_refused_on_demand(folder: Path) -> None:
    """The cache refuses a second name for a file; a folder of the user's may have one."""
    Checkpoint.create(folder)
    os.link(folder / "model.pt", folder.parent / "second-name")

    assert Checkpoint.open(folder)
    with pytest.raises(UnsafePath, match="hard link"):
        Checkpoint.open(folder, allow_hard_links=False)


def test_a_file_is_found_by_its_listed_name(folder: Path) -> None:
    """Only what the manifest lists has a path; others are answered with the nearest names."""
    checkpoint = Checkpoint.create(folder)

    assert folder / "tokenizer" / "vocab.txt" == checkpoint.file("tokenizer/vocab.txt")
    with pytest.raises(CheckpointError, match=r"no file 'modle.pt'.*'model.pt'"):
        checkpoint.file("modle.pt")
    with pytest.raises(CheckpointError, match=r"no file 'manifest\.json'"):
        checkpoint.file("manifest.json")
    with pytest.raises(UnsafePath):
        checkpoint.file("../checkpoint/model.pt")


def test_classes_come_in_the_order_of_their_index(folder: Path) -> None:
    """`classes` is what `probabilities` columns are labelled with."""
    assert Checkpoint.create(folder, METADATA).classes == ["mlops", "other"]


def test_no_classes_is_an_error_that_says_where_they_belong(folder: Path) -> None:
    """A checkpoint without class_to_index has no classes to give."""
    with pytest.raises(CheckpointError, match=r"no 'class_to_index'.*Checkpoint\.create"):
        _ = Checkpoint.create(folder).classes


@pytest.mark.parametrize(
    "mapping",
    [{}, [], "ab", {"a": 1}, {"a": 0, "b": 0}, {"a": 0, "b": 2}, {"a": -1, "b": 0}, {"a": "0"},
     {"a": 0.0}, {"a": False}],
)  # fmt: skip
def test_class_to_index_must_be_a_numbering(folder: Path, mapping: Any) -> None:
    """Anything but 0 to k-1, each once, fails at training and not at serving."""
    with pytest.raises(CheckpointError, match="class_to_index"):
        Checkpoint.create(folder, {"class_to_index": mapping})


@pytest.mark.parametrize("examples", [{}, ["x"], [{}], [{"input": "x"}], [{"prediction": "x"}]])
def test_examples_must_be_rows(folder: Path, examples: Any) -> None:
    """Golden examples of another form fail at training and not at serving."""
    with pytest.raises(CheckpointError, match="examples"):
        Checkpoint.create(folder, {"examples": examples})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x", {1, 2}])
def test_metadata_must_be_json(folder: Path, value: Any) -> None:
    """Metadata that JSON cannot hold are refused, and no manifest is written."""
    with pytest.raises(CheckpointError, match="as JSON"):
        Checkpoint.create(folder, {"value": value})
    assert not (folder / "manifest.json").exists()


def test_nothing_is_ever_unpickled(folder: Path, tmp_path: Path) -> None:
    """A pickle with a payload is bytes like any others, in every place it can take."""

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "canary",))

    payload = pickle.dumps(Payload())
    (folder / "model.pkl").write_bytes(payload)
    checkpoint = Checkpoint.create(folder)
    Checkpoint.open(folder, checkpoint.digest).file("model.pkl")
    (folder / "manifest.json").write_bytes(payload)
    with pytest.raises(CheckpointError):
        Checkpoint.open(folder)

    assert not (tmp_path / "canary").exists()


def test_a_checkpoint_is_plain_data(folder: Path) -> None:
    """Checkpoints can be hashed, compared and sent to another process."""
    checkpoint = Checkpoint.create(folder, METADATA)

    assert checkpoint == pickle.loads(pickle.dumps(checkpoint))  # noqa: S301 (ours)
    assert len({checkpoint, Checkpoint.open(folder)}) == 1
