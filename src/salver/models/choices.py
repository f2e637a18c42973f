"""Which variant of a model is in use: a file beside its checkpoint, which never changes itself.

    attachments/<digest of the checkpoint>/optimized/<version>.json    the choice
    attachments/<digest of the checkpoint>/optimized/<version>.html    why

The version is that of all that decides an answer: the checkpoint, the class and its arguments, and
the policies. A choice counts for just that one. This module does not know how it was made.
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


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant that replicas of one version of a deployment run.

    Attributes:
        deployment: Name.
        name: Of the variant; null says that the original is used, for nothing faster was faithful.
        digest: Of the variant's checkpoint; empty for the original.
        note: What was found, in a sentence for people.
        made_at: ISO 8601 time in UTC.
    """

    deployment: str
    name: str | None
    digest: str
    note: str
    made_at: str


def folder_of(digests: Sequence[str]) -> Path:
    """Where the attachments lie of what was made from these checkpoints."""
    given = sorted(digests)
    key = given[0] if len(given) == 1 else hashlib.sha256("+".join(given).encode()).hexdigest()
    return cache_dir() / "attachments" / key / "optimized"


def write(digests: Sequence[str], version: str, choice: Choice, page: str) -> Path:
    """Puts a choice in force, and the page that tells why; returns the path of the page.

    Raises:
        CheckpointError: If the cache cannot be written.
    """
    folder = folder_of(digests)
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


def read(digests: Sequence[str], version: str) -> Choice | None:
    """The choice in force for a version; null if none was ever made.

    Raises:
        CheckpointError: If it cannot be read.
    """
    path = folder_of(digests) / f"{version}.json"
    try:
        return Choice(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}). Run salver optimize again, or remove it."
        ) from error


def of_other_versions(digests: Sequence[str], deployment: str) -> bool:
    """Whether there is a variant for another version of the deployment, with other rules or code."""
    for path in folder_of(digests).glob("*.json"):
        found = read(digests, path.stem)
        if found is not None and found.deployment == deployment and found.name is not None:
            return True
    return False


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).chmod(0o644)  # another user may serve what this one has optimised
    os.replace(temporary, path)
