"""A model of any framework as the plain class that Salver serves.

The class is like any that a user writes: it loads in `__init__` and maps columns in `__call__`.
It knows neither the engine nor the framework, only the table of adapters.
"""

from __future__ import annotations

import sys
from typing import Any

from salver.definition import Deployment, definition_of
from salver.models import frameworks
from salver.models.checkpoint import Checkpoint
from salver.models.description import Artifact, Description
from salver.models.reference import checkpoint
from salver.options import DEPLOYMENT_OPTIONS


class ServedModel:
    """A model that is served by its URI, as its framework answers.

    Args:
        checkpoint: What it was adopted as.

    Raises:
        CheckpointError: If the checkpoint is one of a user's own class, or the model does not fit
            its signature.
        MissingExtra: If its framework is not installed.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        found = Description.of(checkpoint)
        self._signature = found.signature
        artifact = Artifact(checkpoint.path, tuple(sorted(checkpoint.files)), found.flavor)
        if found.code and found.flavor.get("code"):
            sys.path.insert(0, str(artifact.path(found.flavor["code"])))  # what was logged with it
        self._model = frameworks.load(found.framework, artifact, found.signature)
        classes = getattr(self._model, "classes_", None)
        if classes is not None:
            self.classes_ = list(classes)

    def __call__(self, batch: dict[str, Any]) -> Any:
        """The model's answer, one entry per row."""
        return self._model(self._signature.arrays(batch))


def deployment_for(adopted: Checkpoint, uri: str) -> Deployment:
    """The deployment of a model that is served by its URI, without code of the user's.

    Args:
        adopted: The model, of which the manifest is read and no more.
        uri: What names it, with its digest.
    """
    found = Description.of(adopted)
    name = found.name if found.name not in DEPLOYMENT_OPTIONS else "model"
    row = found.signature.row_model(name)
    return definition_of(ServedModel, row, name, {}).bind(checkpoint(uri))
