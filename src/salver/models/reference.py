"""Lazy references to checkpoints: what to serve, not yet where it is.

Importing a service module makes references and nothing more: no network, no file and no MLflow
is touched here. The engine has them resolved once per start (`salver.models.resolve`). Arguments
are checked at once all the same, for a misspelt mode should not wait for a deployment to fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, get_args
from urllib.parse import unquote, urlsplit

from salver.errors import ConfigError, InvalidOption, UnsafePath, nearest
from salver.paths import check_relative
from salver.types import Mode

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_RUN_ID = re.compile(r"[A-Za-z0-9][\w-]{0,255}")
_MODEL_ID = re.compile(r"m-[0-9a-f]{8,64}")
_DIGEST = re.compile(r"@sha256:([0-9a-f]{64})$")
_HOW = (
    "Write 'runs:/<run id>/checkpoint', 'models:/<name>@<alias>', 'models:/<name>/<version>', "
    "or the path of a folder."
)


@dataclass(frozen=True, slots=True)
class RunArtifact:
    """A folder among the artefacts of a run; `path` has `/` between its components."""

    run_id: str
    path: str

    def __str__(self) -> str:
        return f"runs:/{self.run_id}/{self.path}"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version in the model registry: either by number or by alias, the other is null."""

    name: str
    version: int | None
    alias: str | None

    def __str__(self) -> str:
        which = f"@{self.alias}" if self.alias else f"/{self.version}"
        return f"models:/{self.name}{which}"


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that MLflow 3 has logged, by its id."""

    model_id: str

    def __str__(self) -> str:
        return f"models:/{self.model_id}"


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder (or a lone file) here; a relative path counts from the working directory."""

    path: str

    def __str__(self) -> str:
        return self.path


Target = RunArtifact | ModelVersion | LoggedModel | LocalFolder


@dataclass(frozen=True)
class CheckpointReference:
    """What `best_checkpoint` and `checkpoint` return. Immutable, hashable, plain data."""

    tracking_uri: str | None
    kind: ClassVar[str]

    def to_json(self) -> dict[str, str | None]:
        """A JSON object from which `from_json` makes an equal reference."""
        return {"kind": self.kind, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> CheckpointReference:
        """The reference that `to_json` described; checks it like the functions that make one.

        Raises:
            ConfigError: When `data` describes no reference.
        """
        arguments = dict(data)
        kind = arguments.pop("kind", None)
        make: Callable[..., CheckpointReference]
        if kind == BestCheckpoint.kind:
            make = best_checkpoint
        elif kind == UriCheckpoint.kind:
            make = checkpoint
        else:
            raise ConfigError(
                f"A reference was given with kind {kind!r}; it takes 'best' or 'uri'. "
                "Make it with CheckpointReference.to_json()."
            )
        try:
            return make(**arguments)
        except TypeError as error:
            raise ConfigError(
                f"A reference of kind {kind!r} was given {sorted(arguments)}: {error}. "
                "Make it with CheckpointReference.to_json()."
            ) from error

    def _where(self) -> str:
        # Without user and password: a repr ends up in logs.
        return f", tracking_uri={hide_password(self.tracking_uri)!r}" if self.tracking_uri else ""


@dataclass(frozen=True, repr=False)
class BestCheckpoint(CheckpointReference):
    """The checkpoint of the finished run with the best last value of a metric."""

    experiment: str
    metric: str
    mode: Mode
    artifact: str
    kind: ClassVar[str] = "best"

    def __repr__(self) -> str:
        artifact = "" if self.artifact == "checkpoint" else f", artifact={self.artifact!r}"
        return (
            f"best_checkpoint({self.experiment!r}, metric={self.metric!r}, mode={self.mode!r}"
            f"{artifact}{self._where()})"
        )


@dataclass(frozen=True, repr=False)
class UriCheckpoint(CheckpointReference):
    """The checkpoint that a URI or path names."""

    uri: str
    kind: ClassVar[str] = "uri"

    @property
    def target(self) -> Target:
        """What the URI names."""
        return parse_uri(self.uri)

    @property
    def digest(self) -> str | None:
        """The digest that the URI asks for, after `@sha256:`."""
        return split_digest(self.uri)[1]

    def __repr__(self) -> str:
        return f"checkpoint({self.uri!r}{self._where()})"


def best_checkpoint(
    experiment: str,
    *,
    metric: str,
    mode: Mode = "min",
    artifact: str = "checkpoint",
    tracking_uri: str | None = None,
) -> CheckpointReference:
    """The best run's checkpoint of an MLflow experiment, chosen anew at each start.

    Args:
        experiment: Name of the experiment.
        metric: Name of the metric; its last logged value counts.
        mode: "min" for a loss, "max" for a score.
        artifact: Folder among the run's artefacts that holds the checkpoint.
        tracking_uri: Where the experiment is; null means `SALVER_TRACKING_URI`, else
            `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`, at start.

    Raises:
        InvalidOption: For an argument that cannot work.
    """
    if not isinstance(experiment, str) or not experiment.strip():
        raise InvalidOption("experiment", experiment, "the name of an MLflow experiment")
    if not isinstance(metric, str) or not metric.strip():
        raise InvalidOption("metric", metric, "the name of a logged metric, such as 'val_loss'")
    if mode not in get_args(Mode):
        raise InvalidOption("mode", mode, "'min' (for a loss) or 'max' (for a score)")
    if not isinstance(artifact, str):
        raise InvalidOption("artifact", artifact, "a folder of the run such as 'checkpoint'")
    try:
        check_relative(artifact)
    except UnsafePath as error:
        raise InvalidOption(
            "artifact", artifact, "a folder of the run such as 'checkpoint'"
        ) from error
    return BestCheckpoint(_tracking_uri(tracking_uri), experiment, metric, mode, artifact)


def checkpoint(uri: str, *, tracking_uri: str | None = None) -> CheckpointReference:
    """The checkpoint that a URI names; an alias is looked up anew at each start.

    Args:
        uri: `runs:/<run id>/checkpoint`, `models:/<name>@<alias>`, `models:/<name>/<version>`,
            `models:/<model id>`, a `file:` URI, or the path of a folder. With `@sha256:<digest>`
            after it, nothing else than the checkpoint of that digest is taken.
        tracking_uri: As for `best_checkpoint`; folders need none.

    Raises:
        ConfigError: For a URI of another form; says which forms there are.
    """
    if not isinstance(uri, str) or not uri.strip():
        raise ConfigError(f"A checkpoint was given as {uri!r}. {_HOW}")
    parse_uri(uri)
    return UriCheckpoint(_tracking_uri(tracking_uri), uri)


def split_digest(uri: str) -> tuple[str, str | None]:
    """A URI without the digest after it, and the digest."""
    found = _DIGEST.search(uri)
    return (uri, None) if found is None else (uri[: found.start()], found[1])


def parse_uri(uri: str) -> Target:
    """What a checkpoint's URI names.

    Raises:
        ConfigError: For an unknown scheme or a part that is missing or impossible.
    """
    uri, _ = split_digest(uri)
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return LocalFolder(uri)
    parsers: dict[str, Callable[[str], Target]]
    parsers = {"runs": _parse_run, "models": _parse_model, "file": _parse_file}
    if scheme[1] not in parsers:
        raise ConfigError(
            f"The checkpoint {hide_password(uri)!r} has the scheme {scheme[1]!r}. "
            f"{nearest(scheme[1], parsers)} {_HOW} (A folder whose name has a colon: "
            f"'./{uri.rpartition('/')[2]}'.)"
        )
    return parsers[scheme[1]](uri)


def _parse_run(uri: str) -> RunArtifact:
    run_id, _, path = uri.removeprefix("runs:/").partition("/")
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(
            f"The checkpoint {uri!r} has the run id {run_id!r}; a run id is letters and digits. "
            "Write 'runs:/<run id>/checkpoint'; `salver best-run` prints run ids."
        )
    if not path:
        raise ConfigError(
            f"The checkpoint {uri!r} names a run but no folder of it. "
            f"Write 'runs:/{run_id}/checkpoint', with the folder that was logged."
        )
    try:
        check_relative(path)
    except UnsafePath as error:
        raise ConfigError(f"The checkpoint {uri!r} is refused. {error.message}") from error
    return RunArtifact(run_id, path)


def _parse_model(uri: str) -> ModelVersion | LoggedModel:
    rest = uri.removeprefix("models:/")
    if _MODEL_ID.fullmatch(rest):
        return LoggedModel(rest)
    name, at, alias = rest.rpartition("@")
    if at and name and alias and "/" not in rest:
        return ModelVersion(name, None, alias)
    name, slash, version = rest.rpartition("/")
    if slash and name and "/" not in name and version.isascii() and version.isdigit():
        return ModelVersion(name, int(version), None)
    raise ConfigError(
        f"The checkpoint {uri!r} names no version of a registered model. Write "
        "'models:/tagger@champion' for an alias or 'models:/tagger/3' for a version; stages and "
        "'latest' are not taken, for what they mean changes without anyone's decision."
    )


def _parse_file(uri: str) -> LocalFolder:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigError(
            f"The checkpoint {uri!r} is not a folder of this machine. "
            "Write 'file:///absolute/path', or the path alone."
        )
    return LocalFolder(unquote(parts.path))


def _tracking_uri(uri: str | None) -> str | None:
    if uri is None:
        return None
    if not isinstance(uri, str) or not _SCHEME.match(uri):
        wanted = "a URI such as 'sqlite:///mlflow.db' or 'http://127.0.0.1:5000'"
        if isinstance(uri, str) and uri.endswith(".db"):
            wanted += f"; for this file write 'sqlite:///{uri}'"
        raise InvalidOption("tracking_uri", uri, wanted)
    return uri


def hide_password(uri: str) -> str:
    """`uri` as it may be logged: with what stands before `@` in its address replaced."""
    return re.sub(r"(?<=://)[^/@]*@", "***@", uri)
