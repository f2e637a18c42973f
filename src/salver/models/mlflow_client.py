"""MLflow's own client: the only door to the library, for every store but a SQLite file.

Importing MLflow takes seconds, so it happens when a store is opened and not before. Every call is
bounded: a tracking server that hangs, drips or answers garbage costs a known number of seconds
and becomes `TrackingUnavailable`. Models are never loaded through MLflow, which would run code
out of the artefact; only names, numbers and files are asked for.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from salver.errors import ModelNotFound, SalverError, TrackingError, TrackingUnavailable
from salver.models.artifacts import MAX_FILES, missing_file, too_many_files
from salver.models.reference import ModelVersion, hide_password
from salver.models.runs import (
    RunSummary,
    experiment_not_found,
    is_comparable,
    metric_not_found,
    model_not_found,
    no_finished_runs,
    run_not_found,
)
from salver.types import Mode

# Seconds that all questions about one reference may take together.
LOOKUP_S = 10.0
# A file may take `LOOKUP_S` to begin, and must come at this rate from then on.
_DOWNLOAD_BYTES_PER_S = 256 * 1024
_UNKNOWN_BYTES = 1 << 30
_PAGE = 200
# For experiments and runs of a store that answers with endless pages.
_MAX_PAGES = 100

_METRIC_NAME = re.compile(r"[\w\-./ :]+")

# MLflow takes these from the environment only. What the operator has set is left alone.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
}
# With which MLflow itself says so; a 404 of some proxy has another code.
_NOT_FOUND = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}

T = TypeVar("T")


class MlflowStore:
    """A tracking store and model registry behind MLflow's client.

    Make one per resolution: its questions share `LOOKUP_S` seconds.

    Args:
        uri: Tracking URI that MLflow understands.

    Raises:
        TrackingError: When MLflow refuses the URI.
        TrackingUnavailable: When the store does not answer.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._shown = hide_password(uri)
        with _environment():
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        self._deadline = time.monotonic() + LOOKUP_S
        try:
            self._client = self._ask(lambda: MlflowClient(uri))
        except TrackingUnavailable as error:
            if isinstance(error.__cause__, MlflowException):  # it has not asked anyone yet
                raise TrackingError(
                    f"MLflow refuses the tracking URI {self._shown}: {_summary(error.__cause__)}"
                ) from error
            raise

    def best_run(self, experiment: str, metric: str, mode: Mode) -> RunSummary:
        """See `TrackingStore.best_run`."""
        found = self._ask(lambda: self._client.get_experiment_by_name(experiment))
        if found is None or found.lifecycle_stage == "deleted":
            page = self._ask(lambda: self._client.search_experiments(max_results=1000))
            raise experiment_not_found(experiment, [e.name for e in page], self._shown)
        experiment_id = self._expect(found.experiment_id)
        metrics: set[str] = set()
        for runs in self._finished_runs(experiment_id, metric, mode):
            candidates = [r for r in runs if is_comparable(r.data.metrics.get(metric, math.nan))]
            if candidates:
                best = min(candidates, key=lambda run: _rank(run, metric, mode))
                value = float(best.data.metrics[metric])
                uri = self._expect(best.info.artifact_uri)
                return RunSummary(best.info.run_id, experiment, metric, value, uri)
            metrics.update(*(run.data.metrics for run in runs))
        statuses = self._ask(lambda: self._client.search_runs([experiment_id], max_results=1000))
        if not any(run.info.status == "FINISHED" for run in statuses):
            raise no_finished_runs(experiment, [run.info.status for run in statuses])
        raise metric_not_found(experiment, metric, metrics)

    def artifact_uri(self, run_id: str) -> str:
        """See `TrackingStore.artifact_uri`."""
        run = self._ask(
            lambda: self._client.get_run(run_id), missing=run_not_found(run_id, self._shown)
        )
        if run.info.lifecycle_stage == "deleted":
            raise run_not_found(run_id, self._shown, deleted=True)
        return self._expect(run.info.artifact_uri)

    def logged_model(self, model_id: str) -> str:
        """See `TrackingStore.logged_model`."""
        missing = model_not_found(model_id, self._shown)
        found = self._ask(lambda: self._client.get_logged_model(model_id), missing)
        return self._expect(found.artifact_location)

    def model_of_run(self, run_id: str, name: str) -> str | None:
        """See `TrackingStore.model_of_run`."""
        run = self._ask(
            lambda: self._client.get_run(run_id), missing=run_not_found(run_id, self._shown)
        )
        ids = [output.model_id for output in getattr(run.outputs, "model_outputs", None) or []]
        found = [self._ask(functools.partial(self._client.get_logged_model, one)) for one in ids]
        named = [one for one in found if one.name == name]
        if not named:
            return None
        last = min(named, key=lambda one: (-one.creation_timestamp, one.model_id))
        return self._expect(last.artifact_location)

    def model_source(self, version: ModelVersion) -> tuple[ModelVersion, str]:
        """See `TrackingStore.model_source`."""
        missing = ModelNotFound(
            f"There is no {version} in {self._shown}. Check the name, and that the version is "
            "registered or the alias set."
        )
        if version.alias is not None:
            alias = version.alias
            found = self._ask(
                lambda: self._client.get_model_version_by_alias(version.name, alias), missing
            )
        else:
            asked = str(version.version)
            found = self._ask(lambda: self._client.get_model_version(version.name, asked), missing)
        number = self._expect(found.version and str(found.version))
        if found.status != "READY":
            raise ModelNotFound(
                f"{version} in {self._shown} has status {found.status}; a version is served once "
                "it is READY. Register it again, or name another version."
            )
        uri = self._ask(lambda: self._client.get_model_version_download_uri(version.name, number))
        return ModelVersion(version.name, int(number), None), self._expect(uri)

    def _finished_runs(self, experiment_id: str, metric: str, mode: Mode) -> Iterator[list[Any]]:
        direction = "ASC" if mode == "min" else "DESC"
        # Any other name is one that MLflow logs for no run, and that its query language fails on.
        order = [f"metrics.`{metric}` {direction}"] if _METRIC_NAME.fullmatch(metric) else []
        token: str | None = None
        for _ in range(_MAX_PAGES):
            page = self._ask(
                lambda token=token: self._client.search_runs(  # type: ignore[misc]
                    [experiment_id],
                    filter_string="attributes.status = 'FINISHED'",
                    max_results=_PAGE,
                    order_by=[*order, "attributes.start_time ASC", "attributes.run_id ASC"],
                    page_token=token,
                )
            )
            yield list(page)
            token = page.token
            if not token:
                return

    def _ask(self, call: Callable[[], Any], missing: SalverError | None = None) -> Any:
        seconds = self._deadline - time.monotonic()
        return _bounded(call, seconds, self._shown, missing)

    def _expect(self, value: str | None) -> str:
        # An answer of the right form without its content is what a stranger's `{}` parses to.
        if not value:
            raise TrackingUnavailable(
                f"What answers at {self._shown} is no MLflow server: its answer lacks ids. "
                "Check the tracking URI."
            )
        return value


class RemoteArtifacts:
    """Artefacts that MLflow fetches: through its server, or from an object store.

    Args:
        uri: Artefact URI of the folder, such as `mlflow-artifacts:/1/<run id>/artifacts/x`.
        tracking_uri: The store that named it; relative artefact URIs count from its server.
    """

    def __init__(self, uri: str, tracking_uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._shown = hide_password(uri)
        self._tracking_uri = tracking_uri
        self._listed: dict[str, dict[str, int]] = {}
        self._folders: dict[str, list[str]] = {}

    def fetch(self, name: str, destination: Path, size: int) -> None:
        """See `ArtifactFolder.fetch`."""
        with _environment():
            from mlflow import artifacts
        if name not in self._files(str(PurePosixPath(name).parent)):
            raise missing_file(name, self._shown, sorted(self._files(".")))
        # A folder of its own: the name under which MLflow puts the file there is its own affair.
        # And whatever a download that was given up still does in it is nobody's loss.
        with tempfile.TemporaryDirectory(
            dir=destination.parent, ignore_cleanup_errors=True
        ) as scratch:
            fetched = _bounded(
                lambda: artifacts.download_artifacts(
                    artifact_uri=f"{self._uri}/{name}",
                    dst_path=scratch,
                    tracking_uri=self._tracking_uri,
                ),
                LOOKUP_S + size / _DOWNLOAD_BYTES_PER_S,
                self._shown,
            )
            os.replace(fetched, destination)

    def sizes(self) -> dict[str, int]:
        """See `ArtifactFolder.sizes`."""
        found: dict[str, int] = {}
        pending = ["."]
        while pending:
            folder = pending.pop()
            found |= self._files(folder)
            pending += self._folders[folder]
            if len(found) + len(pending) > MAX_FILES:
                raise too_many_files(self._shown)
        return dict(sorted(found.items()))

    def _files(self, folder: str) -> dict[str, int]:
        """Sizes of the files in one folder of this folder; asked for once."""
        with _environment():
            from mlflow import artifacts

        if folder not in self._listed:
            uri = self._uri if folder == "." else f"{self._uri}/{folder}"
            entries = _bounded(
                lambda: artifacts.list_artifacts(artifact_uri=uri, tracking_uri=self._tracking_uri),
                LOOKUP_S,
                self._shown,
            )
            paths = {str(PurePosixPath(folder, PurePosixPath(e.path).name)): e for e in entries}
            self._folders[folder] = [path for path, entry in paths.items() if entry.is_dir]
            self._listed[folder] = {
                # Some stores do not say.
                path: entry.file_size or _UNKNOWN_BYTES
                for path, entry in paths.items()
                if not entry.is_dir
            }
        return self._listed[folder]


def _rank(run: Any, metric: str, mode: Mode) -> tuple[float, int, str]:
    value = float(run.data.metrics[metric])
    return (value if mode == "min" else -value, int(run.info.start_time), str(run.info.run_id))


def _bounded(
    call: Callable[[], T], seconds: float, where: str, missing: SalverError | None = None
) -> T:
    """What a call into MLflow returns, in bounded time.

    A thread makes the call, for MLflow's own timeout starts anew with every byte that arrives.
    When time is up the thread is left to itself: it ends with its connection, or its process.

    Raises:
        TrackingUnavailable: When it takes longer, or fails for any reason but absence.
        SalverError: `missing`, when MLflow says that the thing does not exist.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 (handed to the asker by the future)
            future.set_exception(error)

    with _environment():
        threading.Thread(target=run, name="salver-tracking", daemon=True).start()
        try:
            return future.result(timeout=max(0.0, seconds))
        except TimeoutError as error:
            raise TrackingUnavailable(
                f"The tracking server {where} did not answer in time. "
                "Check that it is up and reachable from here."
            ) from error
        except ImportError as error:
            raise TrackingError(
                f"MLflow needs a library for {where} that is not installed ({error}). Install it."
            ) from error
        except Exception as error:
            # MLflow lets every library beneath it raise what it likes, garbage included.
            if missing is not None and getattr(error, "error_code", None) in _NOT_FOUND:
                raise missing from error
            raise TrackingUnavailable(
                f"The tracking server {where} gave no usable answer: {_summary(error)} "
                "Check that it is up, and that the tracking URI and credentials are right."
            ) from error


def _summary(error: Exception) -> str:
    lines = hide_password(str(error)).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    text = text if len(text) <= 500 else text[:497] + "..."
    return text if text.endswith((".", "!", "?")) else text + "."


_settings_lock = threading.Lock()
_settings_users = 0
_settings_made: list[str] = []


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Bounded retries, no telemetry and no noise, for as long as somebody is in a call."""
    global _settings_users  # noqa: PLW0603 (the environment is global too)
    with _settings_lock:
        _settings_users += 1
        if _settings_users == 1:
            _settings_made[:] = [name for name in _ENVIRONMENT if name not in os.environ]
            os.environ.update({name: _ENVIRONMENT[name] for name in _settings_made})
    try:
        yield
    finally:
        with _settings_lock:
            _settings_users -= 1
            if _settings_users == 0:
                for name in _settings_made:
                    os.environ.pop(name, None)
