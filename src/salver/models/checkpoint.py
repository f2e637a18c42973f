"""Checkpoints: immutable folders whose every byte is vouched for by a manifest.

A checkpoint knows its files, their hashes and some metadata. It does not know what framework
wrote the files, and nothing here ever loads or unpickles one: that is for the model class.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from salver.errors import CheckpointCorrupt, CheckpointError, nearest
from salver.models.manifest import MANIFEST, MAX_BYTES, FileEntry, Manifest
from salver.paths import open_regular, safe_join, walk


@dataclass(frozen=True)
class Checkpoint:
    """An immutable folder with a manifest. Get one from `open` or `create`, never by hand.

    Passes for its folder wherever Python takes a path.

    Attributes:
        path: The folder.
        digest: sha256 of the canonical manifest, in hexadecimal; two checkpoints with one digest
            have the same files and metadata.
        metadata: Free JSON. Conventions: `class_to_index` ({name: index}), `metrics`, `params`,
            `run_id`, and `examples`, a list of golden examples {"input": {...}} with an optional
            "prediction".
        source: Where it came from, such as `runs:/<id>/checkpoint`; null for a bare folder.
        files: What the manifest says of each file.
    """

    path: Path
    digest: str
    metadata: Mapping[str, Any] = field(compare=False, repr=False)
    source: str | None = field(default=None, compare=False)
    files: Mapping[str, FileEntry] = field(default_factory=dict, compare=False, repr=False)

    def __fspath__(self) -> str:
        return str(self.path)

    def file(self, name: str) -> Path:
        """The path of one file.

        Args:
            name: Path relative to the checkpoint, with `/` between components.

        Raises:
            CheckpointError: When the manifest does not list it; names the nearest that it lists.
            UnsafePath: When the name leads out of the checkpoint.
        """
        path = safe_join(self.path, name)
        if name not in self.files:
            raise CheckpointError(
                f"The checkpoint {self.path} has no file {name!r}. {nearest(name, self.files)}"
            )
        return path

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their index.

        Raises:
            CheckpointError: When the metadata have no `class_to_index`, or one whose indices are
                not 0 to k-1.
        """
        if "class_to_index" not in self.metadata:
            raise CheckpointError(
                f"The checkpoint {self.path} has no 'class_to_index' in its metadata. "
                'Write it at training: Checkpoint.create(directory, {"class_to_index": {...}}).'
            )
        return _classes(self.metadata["class_to_index"], str(self.path))

    @staticmethod
    def create(
        directory: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """Makes a folder of files a checkpoint: hashes every file and writes `manifest.json`.

        The manifest is replaced atomically when there is one already.

        Raises:
            CheckpointError: When there is no such folder, or the metadata are not plain JSON or
                break a convention.
            UnsafePath: When the folder holds a link, a FIFO or a name that no manifest can hold.
        """
        path = Path(directory)
        if not path.is_dir():
            raise CheckpointError(
                f"There is no folder {path} to make a checkpoint of. Save the model there first."
            )
        # One pass of hashing, sorted so that errors come in the same order everywhere.
        files = {name: _hash(path, name) for name in sorted(_walk(path))}
        return Checkpoint(path, "", {}, None, files).with_metadata(metadata or {})

    def with_metadata(self, metadata: Mapping[str, Any]) -> Checkpoint:
        """Writes the manifest again, with other metadata of the same files.

        Raises:
            CheckpointError: As `create`.
        """
        _check_conventions(metadata)
        try:
            data = Manifest(self.files, metadata).dump()
            manifest = Manifest.load(data, MANIFEST)  # what `open` will see: tuples become lists
        except (TypeError, ValueError, CheckpointCorrupt) as error:
            raise CheckpointError(
                f"The metadata of the checkpoint {self.path} do not survive as JSON ({error}). Use "
                "text keys, and values that are text, numbers, booleans, null, lists or objects."
            ) from error
        _write_atomically(self.path / MANIFEST, data)
        return replace(self, digest=manifest.digest, metadata=manifest.metadata)

    @staticmethod
    def look(directory: str | os.PathLike[str], source: str | None = None) -> Checkpoint:
        """A checkpoint of which only the manifest is verified: to read its metadata.

        Raises:
            CheckpointCorrupt: When the manifest was changed.
            CheckpointError: When there is none, or its format is unknown.
        """
        path = Path(directory)
        manifest = _read_manifest(path)
        return Checkpoint(path, manifest.digest, manifest.metadata, source, manifest.files)

    @staticmethod
    def open(
        directory: str | os.PathLike[str],
        digest: str | None = None,
        source: str | None = None,
        *,
        allow_hard_links: bool = True,
    ) -> Checkpoint:
        """Opens a checkpoint once every byte of it is verified: sizes first, then hashes.

        Args:
            directory: The folder.
            digest: The digest it must have; null accepts any that is consistent in itself.
            source: Kept for reports.
            allow_hard_links: False refuses files with a second name, see `salver.paths.safe_join`.

        Raises:
            CheckpointCorrupt: When a file is missing, added, truncated or changed, or the digest
                is another one.
            CheckpointError: When there is no manifest, or its format is unknown.
            UnsafePath: When something in the folder leads out of it.
        """
        path = Path(directory)
        manifest = _read_manifest(path)
        if digest is not None and manifest.digest != digest:
            raise CheckpointCorrupt(
                f"The checkpoint {path} has digest {manifest.digest}, but {digest} is wanted. "
                "It is another version: fetch the wanted one, or ask for this one."
            )
        _check_listing(path, manifest)
        for name, entry in manifest.files.items():
            size = safe_join(path, name, allow_hard_links=allow_hard_links).lstat().st_size
            if size != entry.bytes:
                raise CheckpointCorrupt(
                    f"The file {name!r} of the checkpoint {path} has {size:,} bytes, but the "
                    f"manifest says {entry.bytes:,}. Fetch or copy the checkpoint again."
                )
        for name, entry in manifest.files.items():
            if (found := _hash(path, name)) != entry:
                raise CheckpointCorrupt(
                    f"The file {name!r} of the checkpoint {path} has sha256 {found.sha256}, but "
                    f"the manifest says {entry.sha256}. Fetch or copy the checkpoint again."
                )
        return Checkpoint(path, manifest.digest, manifest.metadata, source, manifest.files)


def _read_manifest(path: Path) -> Manifest:
    if not path.is_dir():
        raise CheckpointError(
            f"There is no checkpoint at {path}: it is {'a file' if path.exists() else 'missing'}. "
            "Give the folder that holds manifest.json."
        )
    where = safe_join(path, MANIFEST)
    try:
        with open_regular(where) as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise CheckpointError(
            f"The folder {path} is no checkpoint: it has no {MANIFEST}. To make it one, call "
            "salver.Checkpoint.create(directory, metadata), which lists and hashes its files."
        ) from None
    return Manifest.load(data, str(where))


def _check_listing(path: Path, manifest: Manifest) -> None:
    present = set(_walk(path))
    if missing := sorted(set(manifest.files) - present):
        raise CheckpointCorrupt(
            f"The checkpoint {path} lacks {_some(missing)}, which its manifest lists. "
            "Fetch or copy the checkpoint again."
        )
    # A file that the manifest does not vouch for could still be read by a model (a config.json
    # that a library picks up by itself), and would change answers under an unchanged digest.
    if extra := sorted(present - set(manifest.files)):
        raise CheckpointCorrupt(
            f"The checkpoint {path} holds {_some(extra)}, which its manifest does not list. "
            "Remove what does not belong to it, or call Checkpoint.create if it does."
        )


def _walk(path: Path) -> Iterator[str]:
    """Relative names of all files but the manifest."""
    return (name for name, _ in walk(path) if name != MANIFEST)


def _hash(root: Path, name: str) -> FileEntry:
    with open_regular(safe_join(root, name)) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, bytes=file.tell())


def _write_atomically(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _check_conventions(metadata: Mapping[str, Any]) -> None:
    """Finds at training time what would otherwise fail at the first start of a service."""
    if "class_to_index" in metadata:
        _classes(metadata["class_to_index"], "the metadata")
    examples = metadata.get("examples", [])
    if not isinstance(examples, list) or not all(
        isinstance(e, dict) and isinstance(e.get("input"), dict) for e in examples
    ):
        raise CheckpointError(
            "The metadata have 'examples' of another form than a list of "
            '{"input": {field: value}, "prediction": optional}. Write each golden example so.'
        )


def _classes(class_to_index: Any, where: str) -> list[str]:
    indices = list(class_to_index.values()) if isinstance(class_to_index, dict) else None
    # type(), for True is an int too.
    if not indices or any(type(i) is not int for i in indices):
        raise CheckpointError(
            f"'class_to_index' of {where} is {class_to_index!r}; it maps each class name to a "
            'whole number, such as {"mlops": 0, "other": 1}.'
        )
    if sorted(indices) != list(range(len(indices))):
        raise CheckpointError(
            f"'class_to_index' of {where} has the indices {sorted(indices)}; "
            f"{len(indices)} classes have the indices 0 to {len(indices) - 1}, each once."
        )
    return sorted(class_to_index, key=class_to_index.__getitem__)


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
