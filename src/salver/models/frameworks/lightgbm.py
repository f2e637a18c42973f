"""LightGBM: boosters in its own text format, which holds no code.

It does not know where the files came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks import sklearn
from salver.models.frameworks.tables import as_matrix, is_matrix
from salver.models.signature import Column, Signature, scalar

LIBRARY = "lightgbm"
MODULES = ("lightgbm",)
EXTRA = "lightgbm"
FLAVORS = ("lightgbm",)

_HEAD = b"tree\n"
_CLASSIFIERS = ("binary", "multiclass", "multiclassova", "softmax", "cross_entropy")


def recognise(names: tuple[str, ...]) -> bool:
    """A lone text file."""
    return len(names) == 1 and names[0].endswith((".txt", ".lgb"))


def code_in(artifact: Artifact) -> list[str]:
    """None in a booster's text; estimators of the scikit-learn face are skops or pickles."""
    return [] if _is_text(artifact) else sklearn.code_in(_as_sklearn(artifact))


def signature_of(artifact: Artifact) -> Signature:
    """The features that the booster was trained on; any may be missing."""
    names = _booster(artifact).feature_name()
    return Signature(tuple(Column(n, scalar("float64"), required=False) for n in names))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The booster behind `Booster`, or an estimator behind scikit-learn's adapter."""
    if not _is_text(artifact):
        return sklearn.load(_as_sklearn(artifact), signature)
    return Booster(_booster(artifact), signature)


class Booster:
    """Asks a booster; labels and probabilities of classifiers, numbers of others.

    Args:
        booster: LightGBM's.
        signature: Its inputs, of which there must be as many as features.

    Raises:
        CheckpointError: If there are not.
    """

    def __init__(self, booster: Any, signature: Signature) -> None:
        self._booster = booster
        self._objective = str(booster.dump_model(num_iteration=0)["objective"]).split(" ", 1)[0]
        per_row = booster.num_model_per_iteration()
        if self._objective in ("multiclass", "multiclassova", "binary"):
            self.classes_ = list(range(max(per_row, 2)))
        if len(signature.columns) != booster.num_feature() and not signature.columns[0].shape:
            raise CheckpointError(
                f"The signature has {len(signature.columns)} inputs, and the booster takes "
                f"{booster.num_feature()} features. Log the model with the signature of what it "
                "was trained on."
            )

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """One entry per row."""
        names = self._booster.feature_name()
        if not is_matrix(inputs) and set(names) == set(inputs):
            inputs = {name: inputs[name] for name in names}
        found = np.asarray(self._booster.predict(as_matrix(inputs)))
        if self._objective == "binary":
            return {"probabilities": np.column_stack([1 - found, found])}
        if self._objective == "multiclass":
            return {"probabilities": found}
        if self._objective == "multiclassova":  # one model for each class: they do not sum to 1
            return {"prediction": found.argmax(axis=1), "score": found}
        return {"prediction": found}


def _file(artifact: Artifact) -> str:
    given = artifact.flavor.get("data")
    name = artifact.names[0] if given is None else given
    artifact.path(name)
    return str(name)


def _is_text(artifact: Artifact) -> bool:
    with artifact.path(_file(artifact)).open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD


def _as_sklearn(artifact: Artifact) -> Artifact:
    flavor = {**artifact.flavor, "pickled_model": _file(artifact)}
    return Artifact(artifact.folder, artifact.names, flavor)


def _booster(artifact: Artifact) -> Any:
    import lightgbm

    name = _file(artifact)
    if not _is_text(artifact):
        raise CheckpointError(f"{name} is no booster in LightGBM's text format.")
    try:
        return lightgbm.Booster(model_file=artifact.path(name))
    except lightgbm.basic.LightGBMError as error:
        raise CheckpointError(f"{name} is no booster that LightGBM reads: {error}") from error
