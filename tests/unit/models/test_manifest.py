from __future__ import annotations

import json
from typing import Any

import pytest

from salver.errors import CheckpointCorrupt, CheckpointError, UnsafePath
from salver.models.manifest import MAX_BYTES, FileEntry, Manifest


def manifest() -> Manifest:
    """One file and some metadata."""
    return Manifest({"model.pt": FileEntry("ab" * 32, 7)}, {"class_to_index": {"é": 0}})


def changed(**changes: Any) -> bytes:
    """A manifest with other top-level values, written as `dump` writes."""
    content = {**json.loads(manifest().dump()), **changes}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def test_what_is_dumped_loads() -> None:
    """A manifest survives the round trip, with its digest."""
    loaded = Manifest.load(manifest().dump(), "manifest.json")

    assert manifest() == loaded
    assert manifest().digest == loaded.digest


def test_the_digest_names_content_not_order() -> None:
    """Order of files and keys does not matter; every value does."""
    entries = {"a": FileEntry("0" * 64, 1), "b": FileEntry("1" * 64, 2)}
    one = Manifest(entries, {"x": 1, "y": 2})
    same = Manifest(dict(reversed(entries.items())), {"y": 2, "x": 1})
    other = Manifest(entries, {"x": 1, "y": 3})

    assert one.digest == same.digest
    assert one.digest != other.digest


def test_every_flipped_byte_is_noticed() -> None:
    """No byte of a manifest can change without an error, even if nobody knows its digest."""
    good = manifest().dump()
    for position in range(len(good)):
        for flip in (0x01, 0x20, 0xFF):
            bad = bytearray(good)
            bad[position] ^= flip
            with pytest.raises(CheckpointError):
                Manifest.load(bytes(bad), "manifest.json")


def test_every_truncation_is_noticed() -> None:
    """No end of a manifest can be missing."""
    good = manifest().dump()
    for length in range(len(good)):
        with pytest.raises(CheckpointError):
            Manifest.load(good[:length], "manifest.json")


def test_an_edited_manifest_says_what_to_do() -> None:
    """Metadata edited by hand are refused, with the way to do it right."""
    with pytest.raises(CheckpointCorrupt, match=r"was changed after .* Checkpoint\.create"):
        Manifest.load(changed(metadata={"class_to_index": {"x": 0}}), "m/manifest.json")


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5])
def test_an_unknown_format_version_is_named(version: Any) -> None:
    """A manifest of another format asks for another Salver, not for a repair."""
    with pytest.raises(CheckpointError, match=r"format version .* reads version 1\. Upgrade"):
        Manifest.load(changed(format_version=version), "manifest.json")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "a\\b", "C:x", "a\0b", "", "./a", "a//b"]
)
def test_a_file_outside_is_refused(name: str) -> None:
    """A manifest cannot name what is not inside its checkpoint."""
    with pytest.raises(UnsafePath, match="may not name"):
        Manifest.load(changed(files={name: {"sha256": "0" * 64, "bytes": 1}}), "manifest.json")


@pytest.mark.parametrize(
    "entry",
    [None, [], "x", {}, {"sha256": "0"}, {"sha256": 1, "bytes": 1}, {"sha256": "0", "bytes": "1"},
     {"sha256": "0", "bytes": True}, {"sha256": "0", "bytes": 1, "mode": 7}],
)  # fmt: skip
def test_a_file_described_otherwise_is_refused(entry: Any) -> None:
    """A file has a hash and a size, of the right types, and nothing else."""
    with pytest.raises(CheckpointCorrupt, match=r"'model.pt'"):
        Manifest.load(changed(files={"model.pt": entry}), "manifest.json")


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"a": NaN}', b"[" * 200_000, b"\x80\x04K\x01.",
     changed(extra=1), changed(files=[]), changed(metadata=[])],
    ids=["empty", "null", "list", "no keys", "not UTF-8", "NaN", "deep", "pickle", "extra key",
         "files", "metadata"],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    """Anything else is refused with an error of ours, whatever a parser would have raised."""
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        Manifest.load(data, "manifest.json")


def test_a_manifest_without_bounds_is_refused() -> None:
    """A manifest that would fill the memory is refused before it is parsed."""
    with pytest.raises(CheckpointCorrupt, match="at most"):
        Manifest.load(b" " * (MAX_BYTES + 1), "manifest.json")
