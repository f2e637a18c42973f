"""MLflow's SQLite store, read without MLflow and without leaving a trace.

Opening the file through MLflow would create it when it is missing, would migrate it when another
version of MLflow made it (and lock that version out), and takes seconds of imports. Looking up the
best run needs a few columns of three tables, unchanged since MLflow 1.0 (those of registered
models: 2.9). So the file is opened read-only with the standard library; a schema that lacks these
columns is an error that says so. Writing to the store is nobody's business here.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from salver.errors import ModelNotFound, TrackingError, TrackingUnavailable, nearest
from salver.models.reference import ModelVersion
from salver.models.runs import (
    RunSummary,
    experiment_not_found,
    metric_not_found,
    model_not_found,
    no_finished_runs,
    run_not_found,
)
from salver.types import Mode

_PREFIX = "sqlite:///"
# Seconds to wait for a training run that is writing at this moment.
_LOCK_TIMEOUT_S = 5.0

# is_nan marks NaN, and infinity is stored as the largest float: see runs.is_comparable.
_BEST = """
SELECT runs.run_uuid, value, artifact_uri
FROM latest_metrics JOIN runs ON runs.run_uuid = latest_metrics.run_uuid
WHERE experiment_id = ? AND status = 'FINISHED' AND lifecycle_stage = 'active'
  AND key = ? AND NOT is_nan AND abs(value) < ?
ORDER BY value {order}, start_time ASC, runs.run_uuid ASC LIMIT 1
"""
_METRICS = """
SELECT DISTINCT key
FROM latest_metrics JOIN runs ON runs.run_uuid = latest_metrics.run_uuid
WHERE experiment_id = ? AND status = 'FINISHED' AND lifecycle_stage = 'active'
"""
_STATUSES = "SELECT status FROM runs WHERE experiment_id = ? AND lifecycle_stage = 'active'"


class SqliteStore:
    """A tracking store and model registry in one SQLite file.

    Args:
        uri: `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises:
        TrackingUnavailable: When there is no such file.
        TrackingError: When the URI names no file.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._path = database_path(uri)
        if not self._path.is_file():
            given = uri.removeprefix(_PREFIX).partition("?")[0]
            relative = "" if given.startswith("/") else f", counted from {Path.cwd()}"
            raise TrackingUnavailable(
                f"There is no MLflow database at {self._path} (tracking URI {uri!r}{relative}). "
                "Train first, start in the folder where you trained, or set SALVER_TRACKING_URI."
            )

    def best_run(self, experiment: str, metric: str, mode: Mode) -> RunSummary:
        """See `TrackingStore.best_run`."""
        order = "ASC" if mode == "min" else "DESC"
        names = self._query(
            "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        )
        ids = dict(names)
        if experiment not in ids:
            raise experiment_not_found(experiment, ids, str(self._path))
        best = self._query(_BEST.format(order=order), ids[experiment], metric, sys.float_info.max)
        if best:
            run_id, value, artifact_uri = best[0]
            return RunSummary(run_id, experiment, metric, value, artifact_uri)
        statuses = [status for (status,) in self._query(_STATUSES, ids[experiment])]
        if "FINISHED" not in statuses:
            raise no_finished_runs(experiment, statuses)
        known = [key for (key,) in self._query(_METRICS, ids[experiment])]
        raise metric_not_found(experiment, metric, known)

    def artifact_uri(self, run_id: str) -> str:
        """See `TrackingStore.artifact_uri`."""
        found = self._query(
            "SELECT artifact_uri, lifecycle_stage FROM runs WHERE run_uuid = ?", run_id
        )
        if not found or found[0][1] != "active":
            raise run_not_found(run_id, str(self._path), deleted=bool(found))
        return str(found[0][0])

    def logged_model(self, model_id: str) -> str:
        """See `TrackingStore.logged_model`."""
        found = self._query(
            "SELECT artifact_location FROM logged_models"
            " WHERE model_id = ? AND lifecycle_stage = 'active'",
            model_id,
        )
        if not found:
            raise model_not_found(model_id, str(self._path))
        return str(found[0][0])

    def model_of_run(self, run_id: str, name: str) -> str | None:
        """See `TrackingStore.model_of_run`."""
        if not self._query("SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"):
            return None  # of an MLflow before 3
        found = self._query(
            "SELECT artifact_location FROM logged_models WHERE source_run_id = ? AND name = ?"
            " AND lifecycle_stage = 'active' ORDER BY creation_timestamp_ms DESC, model_id LIMIT 1",
            run_id,
            name,
        )
        return str(found[0][0]) if found else None

    def model_source(self, version: ModelVersion) -> tuple[ModelVersion, str]:
        """See `TrackingStore.model_source`."""
        number = version.version if version.alias is None else self._aliased(version)
        found = self._query(
            "SELECT storage_location, source, status FROM model_versions"
            " WHERE name = ? AND version = ?",
            version.name,
            number,
        )
        if not found:
            raise self._no_model(version)
        location, source, status = found[0]
        if status != "READY":
            raise ModelNotFound(
                f"Version {number} of the model {version.name!r} has status {status}; a version "
                "is served once it is READY. Register it again, or name another version."
            )
        return ModelVersion(version.name, number, None), str(location or source)

    def _aliased(self, version: ModelVersion) -> int:
        found = self._query(
            "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?",
            version.name,
            version.alias,
        )
        if not found:
            raise self._no_model(version)
        return int(found[0][0])

    def _no_model(self, version: ModelVersion) -> ModelNotFound:
        models = [name for (name,) in self._query("SELECT DISTINCT name FROM model_versions")]
        if version.name not in models:
            advice = nearest(version.name, models)
        elif version.alias is not None:
            known = self._query(
                "SELECT alias FROM registered_model_aliases WHERE name = ?", version.name
            )
            there = ", ".join(sorted(alias for (alias,) in known)) or "none"
            advice = f"Aliases of {version.name!r}: {there}."
        else:
            known = self._query(
                "SELECT version FROM model_versions WHERE name = ? ORDER BY version", version.name
            )
            advice = (
                f"Versions of {version.name!r}: {', '.join(str(number) for (number,) in known)}."
            )
        return ModelNotFound(f"There is no {version} in {self._path}. {advice}")

    def _query(self, sql: str, *arguments: Any) -> Sequence[tuple[Any, ...]]:
        # One connection per question: none is kept open for longer than a question takes.
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=_LOCK_TIMEOUT_S
            )
            try:
                return connection.execute(sql, arguments).fetchall()
            finally:
                connection.close()
        except sqlite3.OperationalError as error:
            if "no such" in str(error):
                raise TrackingError(
                    f"{self._path} is no MLflow database that Salver can read ({error}). Check "
                    "the tracking URI; a database of a very old MLflow needs `mlflow db upgrade`."
                ) from error
            raise TrackingUnavailable(
                f"The MLflow database {self._path} cannot be read now ({error}). "
                "Check its permissions, and whether another process holds it locked."
            ) from error
        except sqlite3.DatabaseError as error:
            raise TrackingError(
                f"{self._path} is no MLflow database ({error}). Check the tracking URI."
            ) from error


def database_path(uri: str) -> Path:
    """The absolute path of the file that a SQLite URI names.

    Raises:
        TrackingError: When it names none, as an in-memory database does.
    """
    given = uri.removeprefix(_PREFIX).partition("?")[0]
    if not uri.startswith(_PREFIX) or not given or given == ":memory:":
        raise TrackingError(
            f"The tracking URI {uri!r} names no file. Write 'sqlite:///mlflow.db' (a path counted "
            "from the working directory) or 'sqlite:////absolute/path/mlflow.db'."
        )
    return Path(os.path.abspath(given))
