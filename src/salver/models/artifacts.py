"""Folders of artefacts, wherever a tracking store says they lie.

Files are fetched one by one and by name, as the manifest of a checkpoint lists them: what else
lies in such a folder is never read, and nothing that is fetched is opened as anything but bytes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Protocol

from salver.errors import CheckpointError, UnsafePath
from salver.models.reference import LocalFolder, hide_password, parse_uri
from salver.paths import open_regular, safe_join, walk

MAX_FILES = 10_000  # of one model


class ArtifactFolder(Protocol):
    """A folder that one checkpoint was logged to."""

    def fetch(self, name: str, destination: Path, size: int) -> None:
        """Copies the file `name` to `destination`, whose folder exists.

        Args:
            name: Relative path with `/` between components, already judged by its spelling.
            destination: A path where nothing lies yet.
            size: Expected bytes, from which follows how long this may take.

        Raises:
            CheckpointError: When the folder has no such file; says what it has.
            TrackingUnavailable: When the place of the artefacts does not answer.
        """
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of all files by their relative path, at most `MAX_FILES` of them.

        Raises:
            CheckpointError: When there are more, or the folder cannot be listed.
            UnsafePath: When something in it is a link, or leads out of it.
            TrackingUnavailable: When the place of the artefacts does not answer.
        """
        ...


class LocalArtifacts:
    """Artefacts in a folder that this machine sees, or a lone file."""

    def __init__(self, path: Path) -> None:
        self._only = path.name if path.is_file() else None
        self._path = path.parent if self._only else path

    def fetch(self, name: str, destination: Path, size: int) -> None:
        """See `ArtifactFolder.fetch`; a copy takes the time it takes, so `size` is not used."""
        try:
            with (
                open_regular(safe_join(self._path, name)) as source,
                destination.open("xb") as copy,
            ):
                shutil.copyfileobj(source, copy)
        except FileNotFoundError:
            raise self._missing(name) from None

    def sizes(self) -> dict[str, int]:
        """See `ArtifactFolder.sizes`."""
        if self._only is not None:
            return {self._only: (self._path / self._only).stat().st_size}
        if not self._path.is_dir():
            raise self._missing("model")
        found: dict[str, os.stat_result] = {}
        for name, entry in walk(self._path):
            found[name] = entry.stat(follow_symlinks=False)
            if len(found) > MAX_FILES:
                raise too_many_files(str(self._path))
        names_of = Counter((stat.st_dev, stat.st_ino) for stat in found.values())
        for name, stat in found.items():
            if stat.st_nlink > names_of[stat.st_dev, stat.st_ino]:
                raise UnsafePath(
                    f"{self._path / name} is a hard link to a file outside of the folder, through "
                    "which it could be changed. Put a copy of the file there."
                )
        return {name: stat.st_size for name, stat in sorted(found.items())}

    def _missing(self, name: str) -> CheckpointError:
        if not self._path.is_dir():
            return CheckpointError(
                f"There is no folder {self._path} on this machine. Log a checkpoint to it, or, if "
                "it lies elsewhere: start where its path counts from (now "
                f"{Path.cwd()}), mount it, or let an MLflow server serve the artefacts."
            )
        return missing_file(name, str(self._path), sorted(os.listdir(self._path)))


def missing_file(name: str, where: str, present: list[str]) -> CheckpointError:
    """The error for an artefact folder that lacks a file."""
    shown = ", ".join(present[:10]) + (", ..." if len(present) > 10 else "")
    return CheckpointError(
        f"The artefacts at {where} hold no {name} (there: {shown or 'nothing'}). Call "
        "salver.Checkpoint.create(directory, metadata) before you log the directory."
    )


def local_path(uri: str) -> Path | None:
    """The local folder that an artefact URI names; null when it names none."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri) and not uri.startswith("file:"):
        return None
    target = parse_uri(uri)
    if not isinstance(target, LocalFolder):
        raise CheckpointError(f"The artefact URI {hide_password(uri)!r} names no folder.")
    return Path(os.path.abspath(target.path))


def too_many_files(where: str) -> CheckpointError:
    """The error for a folder that is no model's."""
    return CheckpointError(f"{where} holds more than {MAX_FILES:,} files. Name the model's folder.")
