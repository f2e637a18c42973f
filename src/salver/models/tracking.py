"""From a reference to a verified folder: ask MLflow which checkpoint is meant, then fetch it.

The last meaning of every reference is kept in the cache, so that a tracking server that is down
is no outage: the copy that was served last is served again, marked stale. This module decides
what happens in which order; the questions are the stores', the files are the cache's.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from salver import settings
from salver.errors import (
    CheckpointCorrupt,
    CheckpointError,
    ConfigError,
    TrackingError,
    TrackingUnavailable,
)
from salver.models.artifacts import ArtifactFolder, LocalArtifacts, local_path
from salver.models.cache import CheckpointCache, Record
from salver.models.checkpoint import Checkpoint
from salver.models.manifest import MANIFEST, MAX_BYTES, Manifest
from salver.models.mlflow_sqlite import SqliteStore, database_path
from salver.models.reference import (
    BestCheckpoint,
    CheckpointReference,
    LocalFolder,
    LoggedModel,
    ModelVersion,
    RunArtifact,
    Target,
    UriCheckpoint,
    hide_password,
    parse_uri,
)
from salver.models.runs import MLMODEL, RunSummary, TrackingStore
from salver.paths import open_regular
from salver.types import Mode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a reference means now.

    Attributes:
        checkpoint: The verified checkpoint.
        stale: True when the tracking server did not answer and the last known copy stands in.
    """

    checkpoint: Checkpoint
    stale: bool


def best_run(
    experiment: str, metric: str, mode: Mode = "min", tracking_uri: str | None = None
) -> RunSummary:
    """The finished run with the best last value of a metric.

    Args:
        experiment: Name of the experiment.
        metric: Name of the metric.
        mode: "min" or "max".
        tracking_uri: Null means `settings.tracking_uri()`.

    Raises:
        TrackingError: See `TrackingStore.best_run`.
    """
    return open_store(tracking_uri or settings.tracking_uri()).best_run(experiment, metric, mode)


def resolve(reference: CheckpointReference, cache: CheckpointCache | None = None) -> Resolution:
    """Finds out what a reference means now and has it on this machine.

    Args:
        reference: From `best_checkpoint` or `checkpoint`.
        cache: Null means the one in `settings.cache_dir()`.

    Raises:
        TrackingError: When the tracking store has no answer, or does not answer and the cache
            holds no earlier copy.
        CheckpointError: When the checkpoint is missing, damaged or unsafe.
    """
    target = reference.target if isinstance(reference, UriCheckpoint) else None
    digest = reference.digest if isinstance(reference, UriCheckpoint) else None
    cache = cache or CheckpointCache(settings.cache_dir())
    if digest is not None and (known := cache.get(digest, str(target))):
        return Resolution(known, stale=False)
    found = _resolve(reference, target, cache)
    if digest not in (None, found.checkpoint.digest):
        raise CheckpointCorrupt(
            f"{target} has the digest {found.checkpoint.digest} now, and {digest} is asked for. "
            "It was changed since, or made by another version of Salver: name it without a digest."
        )
    return found


def _resolve(
    reference: CheckpointReference, target: Target | None, cache: CheckpointCache
) -> Resolution:
    if isinstance(target, LocalFolder):
        path = Path(os.path.abspath(target.path))
        if path.is_file() or (path.is_dir() and not (path / MANIFEST).exists()):
            return Resolution(_adopted(LocalArtifacts(path), str(path), cache), stale=False)
        return Resolution(Checkpoint.open(path, source=str(target)), stale=False)
    tracking_uri = reference.tracking_uri or settings.tracking_uri()
    key = _key(reference, tracking_uri)
    try:
        source, uri = _locate(reference, target, open_store(tracking_uri))
        checkpoint = _fetch(source, uri, tracking_uri, cache)
    except TrackingUnavailable as error:
        return Resolution(_last_known(reference, key, cache, error), stale=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    cache.remember(key, Record(checkpoint.digest, source, now))
    return Resolution(checkpoint, stale=False)


def open_store(uri: str) -> TrackingStore:
    """The store that a tracking URI names.

    Raises:
        TrackingError: When the URI names none; `TrackingUnavailable` when it does not answer.
    """
    if uri.startswith("sqlite:"):
        return SqliteStore(uri)
    # The import of MLflow behind this one takes seconds that a SQLite file does not need.
    from salver.models.mlflow_client import MlflowStore

    return MlflowStore(uri)


def _locate(
    reference: CheckpointReference, target: Target | None, store: TrackingStore
) -> tuple[str, str]:
    """What the reference means now, pinned, and the artefact URI of that folder."""
    if isinstance(reference, BestCheckpoint):
        run = store.best_run(reference.experiment, reference.metric, reference.mode)
        log.info(
            "The best run of %r by %s is %s (%s = %g)",
            run.experiment,
            reference.mode,
            run.run_id,
            run.metric,
            run.value,
        )
        pinned = RunArtifact(run.run_id, reference.artifact)
        return str(pinned), f"{run.artifact_uri}/{pinned.path}"
    if isinstance(target, ModelVersion):
        # The alias is read once; all that follows is about the version that it named then.
        version, registered = store.model_source(target)
        is_reference = registered.startswith(("runs:", "models:"))
        folder = parse_uri(registered) if is_reference else None
        return str(version), _uri_of(folder, store) or registered
    if uri := _uri_of(target, store):
        return str(target), uri
    raise ConfigError(f"{reference!r} is no reference that best_checkpoint or checkpoint makes.")


def _uri_of(target: Target | None, store: TrackingStore) -> str | None:
    """The artefact URI of what a run or MLflow 3 has logged; null for other targets."""
    if isinstance(target, LoggedModel):
        return store.logged_model(target.model_id)
    if isinstance(target, RunArtifact):
        name, _, rest = target.path.partition("/")
        model = store.model_of_run(target.run_id, name)
        if model is not None:
            return f"{model}/{rest}".rstrip("/")
        return f"{store.artifact_uri(target.run_id)}/{target.path}"
    return None


def _fetch(source: str, uri: str, tracking_uri: str, cache: CheckpointCache) -> Checkpoint:
    """Reads the manifest, and the files only if the cache does not have them already.

    A model of MLflow, which has no manifest, is fetched as a whole.
    """
    path = local_path(uri)
    folder: ArtifactFolder
    if path is not None:
        folder = LocalArtifacts(path)
    elif uri.startswith("mlflow-artifacts:") and not tracking_uri.startswith("http"):
        raise TrackingError(
            f"The artefacts of {source} lie behind the MLflow server that owns "
            f"{hide_password(tracking_uri)}. Give its address as the tracking URI (http://...)."
        )
    else:
        from salver.models.mlflow_client import RemoteArtifacts

        folder = RemoteArtifacts(uri, tracking_uri)
    with tempfile.TemporaryDirectory(prefix="salver-") as scratch:
        destination = Path(scratch) / MANIFEST
        try:
            folder.fetch(MANIFEST, destination, 0)
        except CheckpointError as missing:
            files = folder.sizes() if path is None or path.is_dir() else {}
            if MLMODEL not in files:
                raise missing from None
            return _adopted(folder, source, cache)
        with open_regular(destination) as file:
            manifest = Manifest.load(file.read(MAX_BYTES + 1), f"{source}/{MANIFEST}")
    return cache.put(manifest, folder.fetch, source)


def _adopted(folder: ArtifactFolder, source: str, cache: CheckpointCache) -> Checkpoint:
    # Checkpoints need neither numpy nor what knows frameworks.
    from salver.models.adoption import adopt

    return adopt(folder, source, cache)


def _last_known(
    reference: CheckpointReference, key: str, cache: CheckpointCache, error: TrackingUnavailable
) -> Checkpoint:
    record = cache.recall(key)
    checkpoint = cache.get(record.digest, record.source) if record else None
    if record is None or checkpoint is None:
        raise TrackingUnavailable(
            f"{error.message} There is no earlier copy of {reference!r} in {cache.root} either."
        ) from error
    log.warning(
        "%s is served from the copy of %s (%s): %s",
        reference,
        record.resolved_at,
        record.source,
        error.message,
    )
    return checkpoint


def _key(reference: CheckpointReference, tracking_uri: str) -> str:
    """The reference and where it was asked, the same from every working directory."""
    if tracking_uri.startswith("sqlite:"):
        tracking_uri = f"sqlite:///{database_path(tracking_uri)}"
    return json.dumps({**reference.to_json(), "tracking_uri": tracking_uri}, sort_keys=True)
