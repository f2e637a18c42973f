"""Which variant of a model and which calibration is in use: files beside its checkpoint.

    attachments/<digest of the checkpoint>/optimized/<version>.json     the choice
    attachments/<digest of the checkpoint>/optimized/<version>.html     why
    attachments/<digest of the checkpoint>/calibrated/<version>.json    and so on

The checkpoint itself never changes. A choice counts for one version: of a variant, that of all that
decides an answer; of a calibration, that of the model without its policies. This module does not
know how a choice was made.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from salver.errors import CheckpointError
from salver.settings import cache_dir

OPTIMIZED, CALIBRATED = "optimized", "calibrated"
_VERBS = {OPTIMIZED: "optimize", CALIBRATED: "calibrate"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What replicas of one version of a deployment use.

    Attributes:
        deployment: Name.
        name: Of the variant or the calibrator; null says that there is none, for nothing faster was
            faithful.
        digest: Of the checkpoint that holds it; empty if there is none.
        note: What was found, in a sentence for people.
        made_at: ISO 8601 time in UTC.
    """

    deployment: str
    name: str | None
    digest: str
    note: str
    made_at: str


def folder_of(kind: str, digests: Sequence[str]) -> Path:
    """Where the attachments of one kind lie of what was made from these checkpoints."""
    given = sorted(digests)
    key = given[0] if len(given) == 1 else hashlib.sha256("+".join(given).encode()).hexdigest()
    return cache_dir() / "attachments" / key / kind


def write(kind: str, digests: Sequence[str], version: str, choice: Choice, page: str) -> Path:
    """Puts a choice in force, and the page that tells why; returns the path of the page.

    Raises:
        CheckpointError: If the cache cannot be written.
    """
    folder = folder_of(kind, digests)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / f"{version}.html", page)
        _replace(folder / f"{version}.json", json.dumps(asdict(choice), indent=2))
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be written ({error.strerror or error}). Free space or mend its "
            "permissions, or set SALVER_CACHE_DIR to another folder."
        ) from error
    return folder / f"{version}.html"


def read(kind: str, digests: Sequence[str], version: str) -> Choice | None:
    """The choice in force for a version; null if none was ever made.

    Raises:
        CheckpointError: If it cannot be read.
    """
    path = folder_of(kind, digests) / f"{version}.json"
    try:
        return Choice(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}). Run salver {_VERBS[kind]} again, or remove it."
        ) from error


def of_other_versions(kind: str, digests: Sequence[str], deployment: str) -> bool:
    """Whether there is something for another version of the deployment, with other rules or code."""
    for path in folder_of(kind, digests).glob("*.json"):
        found = read(kind, digests, path.stem)
        if found is not None and found.deployment == deployment and found.name is not None:
            return True
    return False


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).chmod(0o644)  # another user may serve what this one has optimised
    os.replace(temporary, path)
