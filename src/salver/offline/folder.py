"""The output folder: one writer at a time, files that are whole or absent.

Promises hold on local disks. Names that start with `_` are skipped by readers of data (Arrow,
pandas, Spark, Ray Data, Salver), so that the folder as a whole can be read as a table. It does
not know what stands in the files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from salver.errors import InvalidOption, OfflineError, OutputExists, OutputInUse

INCOMPLETE = "_INCOMPLETE"
SUCCESS = "_SUCCESS"
MANIFEST = "_manifest.json"
JOURNAL = "_journal.jsonl"
QUARANTINE = "_quarantine"
MARKERS = (INCOMPLETE, MANIFEST, JOURNAL)
_LOCK = ".lock"
_TEMPORARY = ".tmp-"
_PART = re.compile(r"part-\d{5,}\.(parquet|jsonl|csv)")
_REMARK = b"Written by an offline job of Salver; see _manifest.json.\n"


def local_folder(output: str | os.PathLike[str]) -> Path:
    """The output as an absolute local path.

    Raises:
        InvalidOption: If it is on another filesystem, where renames and locks promise less.
    """
    text = os.fspath(output)
    parts = urlsplit(text)
    if "://" in text:
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            wanted = "a folder on a local disk; write there and copy the finished folder"
            raise InvalidOption("output", text, wanted)
        text = unquote(parts.path)
    return Path(os.path.abspath(os.path.expanduser(text)))


class OutputFolder:
    """A folder that is held by one job.

    Made by `held`. All writing goes through `write`, which either puts a whole file on the disk
    or leaves what was there.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        """True if a job ended here."""
        if (self.path / INCOMPLETE).exists():
            return False
        return (self.path / SUCCESS).exists() and (self.path / MANIFEST).exists()

    @property
    def begun(self) -> bool:
        """True if a job wrote here, finished or not."""
        return any((self.path / name).exists() for name in MARKERS)

    def foreign(self) -> list[str]:
        """Names that no offline job wrote; hidden files do not count."""
        return sorted(n for n in os.listdir(self.path) if not _is_own(n) and not n.startswith("."))

    def begin(self) -> None:
        """Marks the folder as not complete."""
        self.write(INCOMPLETE, _REMARK)

    def finish(self) -> None:
        """Marks the folder as complete, in one step."""
        os.replace(self.path / INCOMPLETE, self.path / SUCCESS)
        _sync_folder(self.path)
        (self.path / JOURNAL).unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> dict[str, Any]:
        """Writes a file whole: temporary file, fsync, rename, fsync of its folder.

        Returns:
            Its name, bytes and sha256.

        Raises:
            OfflineError: If the disk refuses, for example because it is full.
        """
        target = self.path / name
        temporary = target.with_name(_TEMPORARY + target.name)
        try:
            if not target.parent.exists():
                target.parent.mkdir()
                _sync_folder(self.path)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        except OSError as error:
            raise refused(self.path, error) from error
        return self.described(name, data)

    @staticmethod
    def described(name: str, data: bytes) -> dict[str, Any]:
        """What `write` returns for this file."""
        return {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()

    def holds(self, written: dict[str, Any] | None) -> bool:
        """True if a file is on the disk as `write` described it; null is no file."""
        if written is None:
            return True
        path = self.path / written["file"]
        if not path.is_file() or path.stat().st_size != written["bytes"]:
            return False
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == written["sha256"])

    def remove_all_but(self, names: set[str]) -> None:
        """Deletes parts and temporary files that are not among `names`; nothing else."""
        for folder in (self.path, self.path / QUARANTINE):
            for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
                name = str(entry.relative_to(self.path))
                own = _PART.fullmatch(entry.name) or entry.name.startswith(_TEMPORARY)
                if own and name not in names and entry.is_file():
                    entry.unlink()
        if (self.path / QUARANTINE).is_dir() and not any((self.path / QUARANTINE).iterdir()):
            (self.path / QUARANTINE).rmdir()

    def clear(self) -> None:
        """Deletes what offline jobs wrote here.

        Raises:
            OutputExists: If other files stand here too; nothing is deleted then.
        """
        if foreign := self.foreign():
            raise OutputExists(
                f"The output folder {self.path} holds files that no offline job wrote: "
                f"{', '.join(foreign[:10])}. Nothing was deleted. Choose another folder, or move "
                "them away."
            )
        # What says that the folder is Salver's goes last, so that clearing can be done again.
        self.begin()
        (self.path / SUCCESS).unlink(missing_ok=True)
        self.remove_all_but(set())
        for name in (MANIFEST, JOURNAL):
            (self.path / name).unlink(missing_ok=True)
        _sync_folder(self.path)


@contextmanager
def held(path: Path) -> Iterator[OutputFolder]:
    """Makes the folder if need be, and holds it for this process.

    Raises:
        OutputExists: If it is a file, or holds files and none of an offline job.
        OutputInUse: If another job writes there; at once, naming its process.
        OfflineError: If the folder cannot be made or written.
    """
    folder = OutputFolder(path)
    try:
        if path.exists() and not path.is_dir():
            raise OutputExists(f"The output {path} is a file; give the name of a folder.")
        if path.is_dir() and not folder.begun and (foreign := folder.foreign()):
            raise OutputExists(
                f"The output folder {path} holds files that no offline job wrote: "
                f"{', '.join(foreign[:10])}. Choose an empty or a new folder."
            )
        path.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path / _LOCK)
    except OSError as error:
        raise refused(path, error) from error
    try:
        yield folder
    finally:
        (path / _LOCK).unlink(missing_ok=True)
        os.close(descriptor)


def refused(path: Path, error: OSError) -> OfflineError:
    """The error of a disk, with the way on."""
    return OfflineError(
        f"Writing to {path} failed: {error.strerror or error}. Make room or mend the rights, and run "
        "the same job with resume (--resume); what is committed there stays."
    )


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise OutputInUse(
                f"Another job (process {owner}) writes to {path.parent}. Wait for it to end, or "
                "choose another folder."
            ) from None
        # The last owner may have deleted the file between our two calls.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            break
        os.close(descriptor)
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _is_own(name: str) -> bool:
    known = (INCOMPLETE, SUCCESS, MANIFEST, JOURNAL, QUARANTINE)
    return name in known or _PART.fullmatch(name) is not None


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
