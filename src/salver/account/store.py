"""Keeps the account of predictions in one SQLite file.

What a call has written survives the death of the process at any moment (WAL, `synchronous=NORMAL`);
a power cut may lose the last moments before it, but does not damage the file. Several processes may
use one file at once, and several threads one `Store`. The file must lie on a local disk, as SQLite's
write-ahead log wants it. It does not know who asks, nor what rows and labels mean.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from salver.account.file import check, create, told
from salver.account.records import Label, Labelled, Record
from salver.errors import AccountError

log = logging.getLogger("salver.account")

MAX_RECORDS = 1_000_000
SPARE_VERSIONS = 10  # described versions of a deployment that stay, even if they have no record

_LOCK_TIMEOUT_S = 10.0
_LARGEST_CHUNK = 1000  # records that go at once, so that nobody waits long for the lock

# What stands in a column of its own; versions stand once, in a table of theirs.
_COLUMNS = [f.name for f in fields(Record) if f.name != "version"]
# A label of this deployment goes before one of all that the id stands for.
_WAITING = """waiting WHERE request_id = :request_id AND row = :row
    AND deployment IN (:deployment, '') ORDER BY deployment DESC LIMIT 1"""
_ADD = f"""
INSERT INTO records ({", ".join(_COLUMNS)}, version_id, label, label_at)
VALUES (
    {", ".join(f":{name}" for name in _COLUMNS)},
    (SELECT id FROM versions WHERE deployment = :deployment AND version = :version),
    (SELECT label FROM {_WAITING}), (SELECT at FROM {_WAITING})
) ON CONFLICT (request_id, row, deployment) DO UPDATE SET version_id = excluded.version_id,
    label = CASE WHEN length = excluded.length THEN label END,
    {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
"""
_ADD_VERSION = "INSERT OR IGNORE INTO versions (deployment, version) VALUES (:deployment, :version)"
_TAKE_LABEL = """
DELETE FROM waiting
WHERE request_id = :request_id AND row = :row AND deployment IN (:deployment, '')
"""
_LABEL = """
UPDATE records SET label = ?3, label_at = ?4
WHERE request_id = ?1 AND row = ?2 AND ?5 IN (deployment, '')
"""
_WAIT = (
    "INSERT OR REPLACE INTO waiting (request_id, row, label, at, deployment) VALUES (?, ?, ?, ?, ?)"
)
_NOTE = """
INSERT INTO versions (deployment, version, described, noted)
VALUES (?, ?, ?, (SELECT coalesce(max(noted), 0) + 1 FROM versions))
ON CONFLICT (deployment, version) DO UPDATE SET described = excluded.described, noted = excluded.noted
"""
_FORGET = """
DELETE FROM versions WHERE deployment = ?1
  AND NOT EXISTS (SELECT 1 FROM records WHERE version_id = versions.id)
  AND id NOT IN (SELECT id FROM versions WHERE deployment = ?1 ORDER BY noted DESC LIMIT ?2)
"""
_VERSIONS = """
SELECT version, (SELECT count(*) FROM records WHERE version_id = versions.id) AS rows,
    (SELECT max(at) FROM records WHERE version_id = versions.id) AS last
FROM versions WHERE deployment = ? AND rows > 0 ORDER BY last DESC
"""
_DEPLOYMENTS = """
SELECT DISTINCT deployment FROM versions WHERE EXISTS
    (SELECT 1 FROM records WHERE version_id = versions.id) ORDER BY deployment
"""
_VERSION_ID = "(SELECT id FROM versions WHERE deployment = ? AND version = ?)"
_DESCRIBED = f"SELECT described FROM versions WHERE id = {_VERSION_ID}"
_COUNT = f"SELECT count(*) FROM records WHERE version_id = {_VERSION_ID}"
_LATEST = f"""
SELECT {", ".join(_COLUMNS)}, label FROM records INDEXED BY by_time
WHERE version_id = {_VERSION_ID} AND at >= ? ORDER BY at DESC, id DESC LIMIT ?
"""
_LATEST_LABELLED = f"""
SELECT {", ".join(_COLUMNS)}, label FROM records INDEXED BY labelled_by_time
WHERE version_id = {_VERSION_ID} AND at >= ? AND label IS NOT NULL
ORDER BY at DESC, id DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A version that has records.

    Attributes:
        version: Of all that decided the answers.
        rows: Number of its records.
        last: Time of the last one, in seconds since 1970 (UTC).
    """

    version: str
    rows: int
    last: float


class Store:
    """The account in a file; made by `open` or `existing`, to be closed.

    After a fork neither process may go on using it: open it anew in the child.

    Args:
        path: Of the file.
        max_records: How many records are kept; null for what the file was last opened with.

    Raises:
        AccountError: If the file is damaged, of another format, or cannot be opened. Any method
            raises it too, once the file cannot be read or written, or the store is closed.
    """

    def __init__(self, path: Path, max_records: int | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._makes = max_records is not None
        with told(path):
            self._connection: sqlite3.Connection | None = _connected(path, max_records)
            self._file = _identity(path)
            (known,) = self._connection.execute("SELECT max_records FROM bounds").fetchone()
        self._max_records = int(known)
        self._made = 0

    @classmethod
    def open(cls, path: Path, *, max_records: int = MAX_RECORDS) -> Store:
        """Opens the account, which is made (mode 0600, with its folder) if there is none.

        Args:
            path: Of the file.
            max_records: How many records are kept, and how many labels whose record is not known;
                beyond that those that were written first go, up to 1,000 at a time.
        """
        if not os.path.exists(path):
            create(path, max_records)
        return cls(path, max_records)

    @classmethod
    def existing(cls, path: Path) -> Store:
        """Opens an account that was made before.

        Raises:
            AccountError: Also if there is none.
        """
        if not os.path.exists(path):
            raise AccountError(
                f"There is no account of predictions at {path}. Run `salver serve --record {path}` "
                "with your service first, or name the file that it writes."
            )
        return cls(path, None)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use of the file; a second call does nothing."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with told(self._path):
                    connection.close()

    def add(self, records: Sequence[Record]) -> None:
        """Writes all records, or none; the same row of a request to a deployment is replaced.

        A label that came before its record is joined to it. It stays when the record is replaced, but
        not by one of a text of another length: that was another question.

        Raises:
            ValueError: If a record holds what SQLite or JSON cannot.
        """
        with self._transaction() as connection:
            rows = [_as_row(one) for one in records]
            connection.executemany(_ADD_VERSION, rows)
            connection.executemany(_ADD, rows)
            connection.executemany(_TAKE_LABEL, rows)
            _trim(connection, "records", self._max_records)

    def label(self, labels: Sequence[Label]) -> int:
        """Writes all labels, or none; of two for the same row, the one that is written last counts.

        Returns:
            How many belong to a record that is known.

        Raises:
            ValueError: If a label holds what SQLite cannot.
        """
        known = 0
        with self._transaction() as connection:
            for one in labels:
                values = (one.request_id, one.row, one.label, one.at, one.deployment)
                found = min(connection.execute(_LABEL, values).rowcount, 1)
                if not found:
                    connection.execute(_WAIT, values)
                known += found
            _trim(connection, "waiting", self._max_records)
        return known

    def note_version(self, deployment: str, version: str, described: Mapping[str, Any]) -> None:
        """Keeps what is to be known of a version, in place of what was kept of it before.

        Descriptions go once a version has no records and ten others were noted since.

        Args:
            deployment: Its name.
            version: Of all that decides its answers.
            described: Plain values that JSON holds.
        """
        packed = zlib.compress(json.dumps(described).encode())
        with self._transaction() as connection:
            connection.execute(_NOTE, (deployment, version, packed))
            connection.execute(_FORGET, (deployment, SPARE_VERSIONS))

    def version(self, deployment: str, version: str) -> Mapping[str, Any] | None:
        """What was noted of a version; null if nothing was."""
        found = self._read(_DESCRIBED, deployment, version)
        if not found or found[0][0] is None:
            return None
        with told(self._path):
            return cast("Mapping[str, Any]", json.loads(zlib.decompress(found[0][0])))

    def versions(self, deployment: str) -> list[Recorded]:
        """Versions of a deployment that have records, the one with the latest record first."""
        return [Recorded(*row) for row in self._read(_VERSIONS, deployment)]

    @property
    def made(self) -> int:
        """How often a file that had been moved or removed was made anew."""
        with self._lock, told(self._path):
            self._opened()
            return self._made

    def mark(self) -> tuple[int, int]:
        """Another pair whenever anybody has written to the file since."""
        ((others,),) = self._read("PRAGMA data_version")
        return others, self._opened().total_changes

    def deployments(self) -> list[str]:
        """Names of the deployments that have records, in the order of the alphabet."""
        return [name for (name,) in self._read(_DEPLOYMENTS)]

    def count(self, deployment: str, version: str) -> int:
        """How many records a version has."""
        return int(self._read(_COUNT, deployment, version)[0][0])

    def latest(
        self,
        deployment: str,
        version: str,
        limit: int,
        *,
        labelled: bool = False,
        since: float | None = None,
    ) -> list[Labelled]:
        """The latest records of a version by their time, the oldest of them first.

        Args:
            deployment: Its name.
            version: Of all that decided its answers.
            limit: How many at most.
            labelled: Whether only records that have a label count.
            since: The earliest time, in seconds since 1970 (UTC); null for any.
        """
        query = _LATEST_LABELLED if labelled else _LATEST
        earliest = float("-inf") if since is None else since
        found = self._read(query, deployment, version, earliest, limit)
        with told(self._path):
            return [_as_labelled(version, row) for row in reversed(found)]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, told(self._path):
            connection = self._opened()
            try:
                # At once for writing: a lock that is taken midway cannot be waited for.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(
                    sqlite3.Error
                ):  # nothing was begun, or SQLite did it itself
                    connection.execute("ROLLBACK")
                raise

    def _read(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self._lock, told(self._path):
            return self._opened().execute(query, arguments).fetchall()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise AccountError(f"The account of predictions {self._path} is closed. Open it anew.")
        if _identity(self._path) != self._file:
            self._connection = self._anew(self._connection)
        return self._connection

    def _anew(self, before: sqlite3.Connection) -> sqlite3.Connection:
        """The file at the path, which is another one: what is written to the old one is lost."""
        if not self._makes:
            raise AccountError(
                f"The account of predictions {self._path} was moved or removed. Open it anew."
            )
        log.warning("%s was moved or removed; answers are kept in a new file there.", self._path)
        before.close()
        if not os.path.exists(self._path):
            create(self._path, self._max_records)
        found = _connected(self._path, self._max_records)
        self._file = _identity(self._path)
        self._made += 1
        return found


def _connected(path: Path, max_records: int | None) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw",  # of a file that is gone, make none
        uri=True,
        timeout=_LOCK_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        check(path, connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        (known,) = connection.execute("SELECT max_records FROM bounds").fetchone()
        if max_records not in (None, known):
            connection.execute("UPDATE bounds SET max_records = ?", (max_records,))
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from any other at its place; null if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _trim(connection: sqlite3.Connection, table: str, most: int) -> None:
    low, high = connection.execute(
        f"SELECT (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table})"
    ).fetchone()
    if low is not None and high - low + 1 > most:
        last = high - most + min(most // 100, _LARGEST_CHUNK)
        connection.execute(f"DELETE FROM {table} WHERE id <= ?", (last,))


def _as_row(record: Record) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in (*_COLUMNS, "version")}
    if record.prediction_set is not None:
        values["prediction_set"] = json.dumps(list(record.prediction_set), ensure_ascii=False)
    if record.inputs is not None:
        values["inputs"] = json.dumps(dict(record.inputs), ensure_ascii=False)
    return values


def _as_labelled(version: str, row: tuple[Any, ...]) -> Labelled:
    *answer, label = row
    values = dict(zip(_COLUMNS, answer, strict=True))
    for name in ("prediction_set", "inputs"):
        if values[name] is not None:
            values[name] = json.loads(values[name])
    return Labelled(Record(version=version, **values), label)
