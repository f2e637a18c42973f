"""Models that were not logged as checkpoints: MLflow's own, and bare files.

They are copied into the cache, looked at without running anything of theirs, and pinned: what is
found out of them (`Description`) becomes part of the checkpoint that they are from then on. This
module does not know where the files come from.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from salver.errors import CheckpointError, CodeRefused
from salver.models import frameworks
from salver.models.artifacts import ArtifactFolder, LocalArtifacts
from salver.models.cache import CheckpointCache
from salver.models.checkpoint import Checkpoint
from salver.models.description import METADATA, Artifact, Description, refusal
from salver.models.manifest import MANIFEST
from salver.models.mlmodel import example_rows, read_mlmodel
from salver.models.reference import split_digest
from salver.models.runs import MLMODEL
from salver.models.signature import no_signature
from salver.paths import walk


def adopt(folder: ArtifactFolder, source: str, cache: CheckpointCache) -> Checkpoint:
    """The checkpoint that a model is from now on.

    Args:
        folder: Its files.
        source: Where they come from, such as `models:/tagger/3` or a path.
        cache: Where the checkpoint goes.

    Raises:
        CheckpointError: If no framework is recognised, or the inputs are not known.
        MissingExtra: If it takes a library to know them that is not installed.
    """

    files = folder.sizes()
    names = tuple(sorted(files))
    if MLMODEL not in files and frameworks.by_names(names) is None:
        raise _unknown(source, [], names)  # before all of it is copied
    key = None if isinstance(folder, LocalArtifacts) else _key(folder, files, source)
    if key is not None and (known := cache.adopted(key, source)):
        return known

    def describe(path: Path) -> dict[str, Any]:
        return described(path, source)

    found = cache.adopt(files, folder.fetch, describe, source)
    if key is not None:
        cache.remember_adopted(key, found.digest, source)
    return found


def _key(folder: ArtifactFolder, files: Mapping[str, int], source: str) -> str | None:
    """What tells that a model elsewhere is the one that was fetched before; null if nothing does.

    `MLmodel` has the id of the model and the time when it was logged.
    """
    if MLMODEL not in files:
        return None
    with tempfile.TemporaryDirectory(prefix="salver-") as scratch:
        destination = Path(scratch) / MLMODEL
        folder.fetch(MLMODEL, destination, files[MLMODEL])
        digest = hashlib.sha256(destination.read_bytes()).hexdigest()
    return json.dumps([source, digest, sorted(files.items())])


def described(folder: Path, source: str) -> dict[str, Any]:
    """Metadata of the checkpoint for the model in `folder`; raises as `adopt`."""
    names = tuple(sorted(name for name, _ in walk(folder) if name != MANIFEST))
    logged = read_mlmodel(folder, source) if MLMODEL in names else None
    flavors = logged.flavors if logged else {}
    framework = frameworks.by_flavor(flavors) if logged else frameworks.by_names(names)
    if framework is None:
        raise _unknown(source, sorted(flavors), names)
    flavor = frameworks.chosen_flavor(framework, flavors)
    artifact = Artifact(folder, names, flavor)
    code = frameworks.adapter_of(framework).code_in(artifact)
    signature = logged.inputs if logged else None
    if signature is None:
        try:
            if code and framework not in frameworks.READ_AS_TEXT:
                raise no_signature("It also")
            signature = frameworks.signature_of(framework, artifact)
        except CheckpointError as error:
            if not code:
                raise
            # To allow the code would not be enough: without running it nobody knows the inputs.
            raise CodeRefused(f"{refusal(source, code)} {error.message}") from error
    found = Description(framework, flavor, signature, tuple(code), name_of(source))
    examples = [{"input": row} for row in example_rows(folder, names, signature)]
    return {METADATA: found.dump(), "examples": examples}


def name_of(source: str) -> str:
    """What a deployment of a model is called: an identifier, made of where it comes from."""
    source, _ = split_digest(source)
    last = source.rstrip("/").rpartition("/")[2]
    if source.startswith("models:/") and not last.startswith("m-"):
        last = source.removeprefix("models:/").partition("/")[0].partition("@")[0]
    elif not source.startswith(("models:", "runs:")):
        last = last.partition(".")[0]
    name = re.sub(r"\W", "_", last, flags=re.ASCII).strip("_")
    return name if name.isidentifier() else "model"


def _unknown(source: str, flavors: list[str], names: Sequence[str]) -> CheckpointError:
    known = ", ".join(frameworks.ADAPTERS)
    if flavors:
        return CheckpointError(
            f"{source} has the flavors {', '.join(flavors)}; this Salver serves models of {known}. "
            "Log it as one of these, or write a class that loads it (salver serve MODULE:NAME)."
        )
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return CheckpointError(
        f"{source} is no model that Salver knows (there: {shown or 'nothing'}). It takes a folder "
        f"that MLflow has written, or files of {known}."
    )
