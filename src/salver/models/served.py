"""A model of any framework as the plain class that Salver serves.

The class is like any that a user writes: it loads in `__init__` and maps columns in `__call__`.
It knows neither the engine nor the framework, only the table of adapters.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from salver.definition import Deployment, definition_of
from salver.errors import CheckpointError
from salver.models import frameworks
from salver.models.adoption import name_of
from salver.models.checkpoint import Checkpoint
from salver.models.description import Artifact, Description
from salver.models.reference import CheckpointReference, checkpoint
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
        self._fields: list[str] | None = None
        artifact = Artifact(checkpoint.path, tuple(sorted(checkpoint.files)), found.flavor)
        if found.code and found.flavor.get("code"):
            sys.path.insert(0, str(artifact.path(found.flavor["code"])))  # what was logged with it
        self._model = frameworks.load(found.framework, artifact, found.signature)
        classes = getattr(self._model, "classes_", None)
        if classes is not None:
            self.classes_ = list(classes)
        tokenizer = getattr(self._model, "tokenizer_file_", None)
        if tokenizer is not None:
            self.tokenizer_file_ = tokenizer

    def read_from(self, fields: Mapping[str, str]) -> None:
        """Says where the inputs stand in a batch, for rows of another model than the signature's.

        Args:
            fields: Names of columns by what they are called in a row.

        Raises:
            CheckpointError: If an input is not among them.
        """
        wanted = [column.name for column in self._signature.columns]
        if missing := [one for one in wanted if one not in fields]:
            raise CheckpointError(
                f"The model takes {', '.join(map(repr, wanted))}, and the input model has no "
                f"{', '.join(map(repr, missing))} (it has {', '.join(map(repr, fields))}). "
                "Name its fields, or their aliases, as the model's inputs."
            )
        self._fields = [fields[name] for name in wanted]

    def __call__(self, batch: dict[str, Any]) -> Any:
        """The model's answer, one entry per row."""
        if self._fields is not None:
            inputs = (batch[field] for field in self._fields)
            batch = dict(zip(self._signature.attributes, inputs, strict=True))
        return self._model(self._signature.arrays(batch))


def model(
    source: str | CheckpointReference,
    *,
    input: type[BaseModel],
    name: str | None = None,
    **options: Any,
) -> Deployment:
    """A deployment of a model as it is, with an input model, options and policies of your own.

    `salver serve models:/tagger@champion` does without any code, and takes the input from the
    model's signature; this is for a service with business rules, or with an app around it.

    Args:
        source: URI or path of the model, or what `checkpoint` and `best_checkpoint` return.
        input: Pydantic model of one row, whose fields are named as the model's inputs are.
        name: Of the deployment; by default what the URI calls it.
        **options: See `salver.options.DeploymentOptions`; `allow_code=True` for pickles.

    Raises:
        ConfigError: For a URI or an option that cannot be.
    """
    reference = checkpoint(source) if isinstance(source, str) else source
    if name is None:
        name = name_of(source) if isinstance(source, str) else "model"
    return definition_of(ServedModel, input, name, options).bind(reference)


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
