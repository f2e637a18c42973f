"""The file that an account of predictions stands in: how it is made, known again, and spoken of.

It does not know what is asked of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from salver.errors import AccountError

_FORMAT = 1
# Ids of records have no gaps: only the lowest ever go. So the first and the last tell how many.
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA user_version = {_FORMAT};
CREATE TABLE bounds (max_records INTEGER NOT NULL);
CREATE TABLE versions (
    id INTEGER PRIMARY KEY, deployment TEXT NOT NULL, version TEXT NOT NULL,
    noted INTEGER NOT NULL DEFAULT 0, described BLOB, UNIQUE (deployment, version)
);
CREATE TABLE records (
    id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, row INTEGER NOT NULL,
    deployment TEXT NOT NULL, version_id INTEGER NOT NULL, at REAL NOT NULL, prediction TEXT, own TEXT, confidence REAL,
    novelty REAL, withheld_by TEXT, prediction_set TEXT, failed TEXT, length INTEGER NOT NULL,
    inputs TEXT, label TEXT, label_at REAL, UNIQUE (request_id, row, deployment)
);
CREATE INDEX by_time ON records (version_id, at);
CREATE INDEX labelled_by_time ON records (version_id, at) WHERE label IS NOT NULL;
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, row INTEGER NOT NULL, label TEXT NOT NULL,
    at REAL NOT NULL, deployment TEXT NOT NULL, UNIQUE (request_id, row, deployment)
);
"""
_ADVICE = {
    sqlite3.SQLITE_BUSY: "Another process has held it locked for too long. Look who uses the file.",
    sqlite3.SQLITE_FULL: "Make room on its disk.",
    sqlite3.SQLITE_IOERR: "Look after its disk.",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for this user.",
    sqlite3.SQLITE_CANTOPEN: "Name a file in a folder of a local disk that this user may write to.",
}
_DAMAGED = (
    "It is damaged, or no account of predictions. Name another file, or move it away together with "
    "its -wal and -shm files: serving then starts a new one."
)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the file system in the words of Salver."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, OverflowError, TypeError) as error:
        raise ValueError(f"A value cannot be kept in an account of predictions: {error}") from error
    except (sqlite3.Error, zlib.error, json.JSONDecodeError, OSError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # its kind
        code = sqlite3.SQLITE_CANTOPEN if isinstance(error, OSError) else code
        raise AccountError(
            f"The account of predictions {path} cannot be used: {error}. "
            + _ADVICE.get(code, _DAMAGED)
        ) from error


def create(path: Path, max_records: int) -> None:
    """Makes an empty account, unless another process is quicker.

    Args:
        path: Of the file, whose folder is made as well.
        max_records: How many records are kept.

    Raises:
        AccountError: If it cannot be made.
    """
    # Made beside its place and linked there whole: two processes that start at once see no half of
    # one, nor its change to WAL, for which SQLite does not wait.
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        log = f"{path}-wal"
        if os.path.exists(log) and not os.path.exists(path):
            raise AccountError(
                f"{log} is left of an account of predictions that is gone, and would damage a new "
                f"one. Put {path} back, or remove {log} and {path}-shm."
            )
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            with contextlib.closing(sqlite3.connect(name)) as connection:
                connection.executescript(f"{_SCHEMA} INSERT INTO bounds VALUES ({max_records});")
            with contextlib.suppress(FileExistsError):  # another process was quicker
                os.link(name, path)
        finally:
            os.unlink(name)


def check(path: Path, connection: sqlite3.Connection) -> None:
    """Looks whether a file is an account.

    Raises:
        AccountError: If it is not, or one of another format.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != _FORMAT:
        raise AccountError(
            f"{path} is no account of predictions that this version of Salver knows: its format is "
            f"{found}, not {_FORMAT}. Name another file, or use the version that wrote it."
        )
