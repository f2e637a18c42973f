"""A folder of verified checkpoints, keyed by digest, shared by any number of processes.

    checkpoints/<digest>/      complete and verified once; verified again whenever it is opened
    staging/<digest>/          being fetched; owned by the holder of locks/<digest>
    locks/<digest>             released by the kernel when its holder dies
    references/<key>.json      what a reference meant when it was last resolved

A checkpoint appears by one rename, so a fetch that is killed leaves nothing that could be taken
for a checkpoint. The cache does not know MLflow: it is given a manifest and a way to fetch files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from salver import __version__
from salver.errors import CheckpointCorrupt, CheckpointError, UnsafePath
from salver.models.checkpoint import Checkpoint
from salver.models.manifest import MANIFEST, Manifest
from salver.paths import check_relative

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """What a reference meant at its last resolution.

    Attributes:
        digest: The checkpoint.
        source: Where it came from, such as `runs:/<id>/checkpoint`.
        resolved_at: ISO 8601 time in UTC.
    """

    digest: str
    source: str
    resolved_at: str


class CheckpointCache:
    """See the module's description.

    Args:
        root: The folder; made when something is put into it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, digest: str) -> Path:
        """Where the checkpoint of that digest lies, if it was fetched."""
        return self.root / "checkpoints" / digest

    def get(self, digest: str, source: str) -> Checkpoint | None:
        """The verified checkpoint; null when it was never fetched.

        Raises:
            CheckpointCorrupt: When it was changed since.
        """
        path = self.path_of(digest)
        if not path.is_dir():
            return None
        # Only this class writes there, so a second name for a file is a way in for someone else.
        return Checkpoint.open(path, digest, source, allow_hard_links=False)

    def put(
        self, manifest: Manifest, fetch: Callable[[str, Path, int], None], source: str
    ) -> Checkpoint:
        """The checkpoint of `manifest`, fetched if it is not there.

        Of several processes that ask at once, one fetches and the others wait for it.

        Args:
            manifest: What to fetch.
            fetch: Called with (name, destination, bytes) for each file.
            source: Where it comes from, for errors and the result.

        Raises:
            CheckpointCorrupt: When what was fetched is not what the manifest says.
            CheckpointError: When the cache cannot be written.
        """
        digest = manifest.digest
        if present := self._intact(digest, source):
            return present
        with self._writing(), self._lock(digest):
            if present := self._intact(digest, source):  # another process was faster
                return present
            return self._fetch(manifest, fetch, source)

    def adopt(
        self,
        files: Mapping[str, int],
        fetch: Callable[[str, Path, int], None],
        describe: Callable[[Path], Mapping[str, Any]],
        source: str,
    ) -> Checkpoint:
        """Makes files that have no manifest a checkpoint, with what `describe` says as metadata.

        Files that were adopted before are not described again.

        Args:
            files: Bytes by relative path.
            fetch: As for `put`.
            describe: Given the folder with the files; must say the same of the same files.
            source: Where they come from.

        Raises:
            CheckpointError: When the cache cannot be written; and what `describe` raises.
            UnsafePath: When a name leads out of the folder.
        """
        with self._writing(), self._staged(files, fetch) as staging:
            bare = Checkpoint.create(staging)
            key = f"files {bare.digest}"
            if known := self.adopted(key, source):
                return known
            made = bare.with_metadata(describe(staging))
            with self._lock(made.digest):
                if not self._intact(made.digest, source):
                    self._move_in(staging, made.digest)
            self.remember_adopted(key, made.digest, source)
            return replace(made, path=self.path_of(made.digest), source=source)

    def adopted(self, key: str, source: str) -> Checkpoint | None:
        """What was adopted under `key` by this version of Salver, if it is still intact."""
        record = self.recall(_adoption(key))
        return None if record is None else self._intact(record.digest, source)

    def remember_adopted(self, key: str, digest: str, source: str) -> None:
        """Writes down what `adopted` will find."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.remember(_adoption(key), Record(digest, source, now))

    @contextlib.contextmanager
    def _staged(
        self, files: Mapping[str, int], fetch: Callable[[str, Path, int], None]
    ) -> Iterator[Path]:
        folder = self.root / "staging"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
            staging = Path(scratch) / "files"
            staging.mkdir()
            for name, size in files.items():
                check_relative(name)  # it may be a server's word
                destination = staging / name
                destination.parent.mkdir(parents=True, exist_ok=True)
                fetch(name, destination, size)
            yield staging

    def _move_in(self, staging: Path, digest: str) -> None:
        _sync(staging)
        final = self.path_of(digest)
        shutil.rmtree(final, ignore_errors=True)  # of which `_intact` said that it is not
        final.parent.mkdir(exist_ok=True)
        os.rename(staging, final)

    def remember(self, key: str, record: Record) -> None:
        """Writes down what the reference `key` means now.

        A cache that cannot be written (one baked into an image, say) is no reason not to serve.
        """
        try:
            path = self._record_path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(record), file)
            os.replace(temporary, path)
        except OSError as error:
            log.warning("The cache %s cannot remember %s: %s", self.root, record.source, error)

    def recall(self, key: str) -> Record | None:
        """What the reference `key` meant last; null when it was never resolved here."""
        path = self._record_path(key)
        try:
            return Record(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("%s is not readable as a record and is not used: %s", path, error)
            return None

    def _intact(self, digest: str, source: str) -> Checkpoint | None:
        try:
            return self.get(digest, source)
        except CheckpointError as error:
            log.warning("The cached copy of %s will be fetched again: %s", source, error.message)
            return None

    def _fetch(
        self, manifest: Manifest, fetch: Callable[[str, Path, int], None], source: str
    ) -> Checkpoint:
        staging = self.root / "staging" / manifest.digest
        shutil.rmtree(staging, ignore_errors=True)  # of a holder of this lock that was killed
        staging.mkdir(parents=True)
        try:
            for name, entry in manifest.files.items():
                destination = staging / name
                destination.parent.mkdir(parents=True, exist_ok=True)
                fetch(name, destination, entry.bytes)
            (staging / MANIFEST).write_bytes(manifest.dump())
            checkpoint = Checkpoint.open(staging, manifest.digest, source)
            self._move_in(staging, manifest.digest)
            return replace(checkpoint, path=self.path_of(manifest.digest))
        except (CheckpointCorrupt, UnsafePath) as error:
            raise CheckpointCorrupt(
                f"What {source} delivers is not what its manifest says. {error.message} If that "
                "repeats, its artefacts are damaged: log the checkpoint again."
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise CheckpointError(
                f"The cache {self.root} cannot be used ({error.strerror or error}). Free space or "
                "mend its permissions, or set SALVER_CACHE_DIR to another folder."
            ) from error

    @contextlib.contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        path = self.root / "locks" / digest
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _record_path(self, key: str) -> Path:
        # Hashed, for a key can hold the password of a tracking URI.
        return self.root / "references" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _adoption(key: str) -> str:
    # Another version may say other things of the same files.
    return f"adopted {__version__} {key}"


def _sync(folder: Path) -> None:
    """Puts a folder's content on the disk, so that a power cut cannot outrun the rename."""
    for parent, _, names in os.walk(folder):
        for path in [parent, *(os.path.join(parent, name) for name in names)]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
