"""The manifest of a checkpoint: which files it consists of, to the byte, and what they are.

One manifest has exactly one spelling (sorted keys, two-space indent, ASCII), and carries the
sha256 of itself. So a flipped byte in it is noticed even by those who do not know its digest
beforehand, and those who do know it have everything that the digest names. This module reads and
writes text; it does not know where files lie (`checkpoint`) or come from (`tracking`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from salver.errors import CheckpointCorrupt, CheckpointError, UnsafePath
from salver.paths import check_relative

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
# Metadata are names and numbers; what is larger is a file, and an attack on memory at worst.
MAX_BYTES = 16 * 1024 * 1024

_KEYS = {"digest", "files", "format_version", "metadata"}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What one file must be: its sha256 in hexadecimal and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files by path relative to the checkpoint (`/` between components), and metadata."""

    files: Mapping[str, FileEntry]
    metadata: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 of the canonical content, in hexadecimal: the identity of the checkpoint."""
        return hashlib.sha256(_text(self._content()).encode()).hexdigest()

    def dump(self) -> bytes:
        """The only bytes that `Manifest.load` accepts for this manifest."""
        return _text({**self._content(), "digest": self.digest}).encode()

    def _content(self) -> dict[str, Any]:
        files = {name: {"sha256": e.sha256, "bytes": e.bytes} for name, e in self.files.items()}
        return {
            "format_version": FORMAT_VERSION,
            "files": files,
            "metadata": self.metadata,
        }

    @staticmethod
    def load(data: bytes, where: str) -> Manifest:
        """Reads a manifest and trusts no part of it.

        Args:
            data: The bytes of `manifest.json`.
            where: What to call it in errors.

        Raises:
            CheckpointCorrupt: When it is not what `dump` wrote.
            CheckpointError: When its format is another version's.
            UnsafePath: When it names a file outside of the checkpoint.
        """
        if len(data) > MAX_BYTES:
            raise CheckpointCorrupt(
                f"{where} has {len(data):,} bytes; a manifest has at most {MAX_BYTES:,}. "
                "Put large metadata into a file of the checkpoint."
            )
        content = _parse(data, where)
        manifest = Manifest(
            files={name: _entry(name, raw, where) for name, raw in content["files"].items()},
            metadata=content["metadata"],
        )
        if manifest.dump() != data:
            raise CheckpointCorrupt(
                f"{where} was changed after it was written: it says digest {content['digest']!r}, "
                f"and its content has {manifest.digest!r}. Restore the file, or call "
                "Checkpoint.create(directory, metadata) if the change was meant."
            )
        return manifest


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _parse(data: bytes, where: str) -> dict[str, Any]:
    def refuse(why: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(
            f"{where} {why}; a manifest is a JSON object with {', '.join(sorted(_KEYS))}. "
            "Restore the file, or make it anew with Checkpoint.create(directory, metadata)."
        )

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        content = json.loads(data, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:  # ValueError covers bad UTF-8 as well
        raise refuse(f"is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise refuse(f"is a {type(content).__name__}")
    version = content.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise CheckpointError(
            f"{where} has format version {version!r}; this Salver reads version {FORMAT_VERSION}. "
            "Upgrade Salver, or make the checkpoint anew with Checkpoint.create."
        )
    if set(content) != _KEYS:
        raise refuse(f"has the keys {sorted(content)}")
    if not isinstance(content["files"], dict) or not isinstance(content["metadata"], dict):
        raise refuse("has 'files' or 'metadata' that are no objects")
    return content


def _entry(name: str, raw: Any, where: str) -> FileEntry:
    try:
        check_relative(name)
    except UnsafePath as error:
        raise UnsafePath(f"{where} names a file that it may not name. {error.message}") from error
    if (
        not isinstance(raw, dict)
        or set(raw) != {"sha256", "bytes"}
        or not isinstance(raw["sha256"], str)
        or type(raw["bytes"]) is not int
    ):
        raise CheckpointCorrupt(
            f"{where} describes the file {name!r} as {raw!r}; "
            'a file is described as {"bytes": int, "sha256": str}. Restore the manifest.'
        )
    return FileEntry(sha256=raw["sha256"], bytes=raw["bytes"])
