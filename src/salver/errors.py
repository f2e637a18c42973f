"""Every error that Salver raises on purpose.

    SalverError
    ├── ConfigError              the definition or its options are wrong; found at start
    │   ├── UnknownOption
    │   ├── InvalidOption
    │   ├── UnsupportedOption
    │   ├── TargetNotFound
    │   └── MissingExtra
    ├── RequestError             the asker can mend it
    │   ├── InvalidInput         422
    │   ├── TooManyRows          413
    │   ├── UnsupportedMediaType 415
    │   ├── Unauthorized         401
    │   └── ForbiddenOrigin      403
    ├── ServingError             the asker can try again
    │   ├── NotReady             503
    │   ├── QueueFull            503
    │   └── DeadlineExceeded     504
    ├── ReplicaError
    │   ├── ReplicaDied          its rows may be run again
    │   └── ReplicaStartFailed
    ├── CheckpointError
    │   ├── CheckpointCorrupt
    │   ├── CodeRefused
    │   └── UnsafePath
    ├── TrackingError
    │   ├── TrackingUnavailable
    │   ├── ExperimentNotFound
    │   ├── NoRuns
    │   ├── RunNotFound
    │   ├── MetricNotFound
    │   └── ModelNotFound
    ├── OfflineError
    │   ├── InputUnreadable
    │   ├── MissingColumns
    │   ├── OutputExists
    │   ├── OutputInUse
    │   ├── ManifestMismatch
    │   └── TooManyBadRows
    ├── AccountError             the account of predictions cannot be read or written
    └── ClusterError             Ray cannot be reached, or cannot run the service

A message says what was given, what was wanted and what to do. `code` is stable and `status` is
the HTTP status; both stand on the class, so that no table maps them later. This module does not
know HTTP beyond that number.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest of `known`, or lists them all."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=2, cutoff=0.6)
    matches = [n for n in names if n.lower() in close]
    if matches:
        return "Did you mean " + " or ".join(repr(m) for m in matches) + "?"
    return "Known: " + ", ".join(names) + "." if names else "There are none."


def last_line(error: BaseException) -> str:
    """The last line of a message, below any traceback that came with it; never empty."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _shown(name: str, value: Any) -> str:
    return "'***'" if "key" in name.lower() else repr(value)  # messages end up in logs


class SalverError(Exception):
    """Base of all errors that Salver raises on purpose."""

    code = "error"
    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(SalverError):
    """The definition or its options are wrong."""

    code = "config_error"


class UnknownOption(ConfigError):
    """An option that does not exist."""

    code = "unknown_option"

    def __init__(self, name: str, value: Any, known: Iterable[str], where: str) -> None:
        super().__init__(
            f"Unknown option {name!r} (value {_shown(name, value)}) in {where}. {nearest(name, known)}"
        )


class InvalidOption(ConfigError):
    """An option with a value that it cannot take."""

    code = "invalid_option"

    def __init__(self, name: str, value: Any, wanted: str) -> None:
        super().__init__(f"Option {name!r} was given {_shown(name, value)}; it takes {wanted}.")


class UnsupportedOption(ConfigError):
    """An option that this engine or replica kind cannot honour."""

    code = "unsupported_option"


class TargetNotFound(ConfigError):
    """`module:attribute` does not lead to a service."""

    code = "target_not_found"


class MissingExtra(ConfigError):
    """An optional library is not installed."""

    code = "missing_extra"

    def __init__(self, library: str, needed_for: str, extra: str) -> None:
        super().__init__(
            f"{needed_for} needs {library}, which is not installed. "
            f"Run: pip install 'salver[{extra}]'"
        )


class RequestError(SalverError):
    """The asker can mend it."""

    code = "bad_request"
    status = 400


class InvalidInput(RequestError):
    """Rows that the schema refuses.

    Attributes:
        problems: One `{"path": [...], "message": str, "type": str}` per bad field.
    """

    code = "invalid_input"
    status = 422

    def __init__(self, message: str, problems: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)


class TooManyRows(RequestError):
    """A list longer than one request may carry."""

    code = "too_many_rows"
    status = 413


class UnsupportedMediaType(RequestError):
    """A body that is not JSON."""

    code = "unsupported_media_type"
    status = 415


class Unauthorized(RequestError):
    """No API key, or a wrong one."""

    code = "unauthorized"
    status = 401


class ForbiddenOrigin(RequestError):
    """A page of another site asked."""

    code = "origin_not_allowed"
    status = 403


class ServingError(SalverError):
    """The asker can try again."""

    code = "unavailable"
    status = 503
    retry_after_s: int | None = None


class NotReady(ServingError):
    """No replica has answered its golden examples yet, or the service is shutting down."""

    code = "not_ready"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(ServingError):
    """The queue of a deployment is full.

    Attributes:
        retry_after_s: Seconds until the queue should have drained.
    """

    code = "queue_full"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ServingError):
    """No answer within the time that the asker gave."""

    code = "deadline_exceeded"
    status = 504


class ReplicaError(SalverError):
    """A replica could not do its work."""

    code = "replica_error"


class ReplicaDied(ReplicaError):
    """A replica ended while it held a batch; the rows may be run again."""

    code = "replica_crashed"


class ReplicaStartFailed(ReplicaError):
    """A replica could not load its model or answer its golden examples."""

    code = "replica_start_failed"


class CheckpointError(SalverError):
    """A checkpoint cannot be used."""

    code = "checkpoint_error"


class CheckpointCorrupt(CheckpointError):
    """A file of a checkpoint is not what its manifest says."""

    code = "checkpoint_corrupt"


class UnsafePath(CheckpointError):
    """A path from an artefact or a request leaves the folder it belongs to."""

    code = "unsafe_path"
    status = 422


class CodeRefused(CheckpointError):
    """A model would run code when it is loaded, and nobody has allowed it."""

    code = "code_refused"


class TrackingError(SalverError):
    """The tracking server has no answer to give."""

    code = "tracking_error"


class TrackingUnavailable(TrackingError):
    """The tracking server does not answer."""

    code = "tracking_unavailable"


class ExperimentNotFound(TrackingError):
    """No experiment of that name."""

    code = "experiment_not_found"


class NoRuns(TrackingError):
    """An experiment without finished runs."""

    code = "no_runs"


class RunNotFound(TrackingError):
    """No run of that id."""

    code = "run_not_found"


class MetricNotFound(TrackingError):
    """A metric that no run has."""

    code = "metric_not_found"


class ModelNotFound(TrackingError):
    """No registered model, version or alias of that name."""

    code = "model_not_found"


class OfflineError(SalverError):
    """An offline job cannot go on."""

    code = "offline_error"


class InputUnreadable(OfflineError):
    """An input that cannot be read."""

    code = "input_unreadable"


class MissingColumns(OfflineError):
    """An input that lacks columns of the schema."""

    code = "missing_columns"


class OutputExists(OfflineError):
    """The output folder holds something already."""

    code = "output_exists"


class OutputInUse(OfflineError):
    """Another job writes to the output folder."""

    code = "output_in_use"


class ManifestMismatch(OfflineError):
    """The job to resume was started with another model, input or options."""

    code = "manifest_mismatch"


class TooManyBadRows(OfflineError):
    """More rows failed than the job allows."""

    code = "too_many_bad_rows"


class AccountError(SalverError):
    """The account of predictions cannot be read or written."""

    code = "account_error"


class ClusterError(SalverError):
    """Ray cannot be reached, or cannot run the service."""

    code = "cluster_error"


def class_of(code: str) -> type[SalverError] | None:
    """The error with a code, for one that came from another process; null if there is none."""
    pending: list[type[SalverError]] = [SalverError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind
        pending += kind.__subclasses__()
    return None


def error_of(
    code: str,
    message: str,
    *,
    retry_after_s: int | None = None,
    problems: Sequence[dict[str, Any]] = (),
) -> SalverError:
    """The error again, from what another process said of it.

    Args:
        code: Of a class above; another one gives the base class.
        message: As it was.
        retry_after_s: Of errors that have it.
        problems: Of errors that have them.
    """
    kind = class_of(code) or SalverError
    error = kind.__new__(kind)  # some are made of other things than their message
    SalverError.__init__(error, message)
    if isinstance(error, InvalidInput):
        error.problems = list(problems)
    if isinstance(error, NotReady | QueueFull):
        error.retry_after_s = 1 if retry_after_s is None else retry_after_s
    return error
