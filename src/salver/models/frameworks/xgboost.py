"""XGBoost: boosters in its own formats, UBJSON and JSON, which hold no code.

It does not know where the files came from.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.tables import as_matrix, is_matrix
from salver.models.signature import Column, Signature, scalar, tensor

LIBRARY = "xgboost"
MODULES = ("xgboost",)
EXTRA = "xgboost"
FLAVORS = ("xgboost",)

_OWN = (".ubj", ".json", ".xgb", ".model", ".deprecated")
_TYPES = {"int": "int64", "i": "bool", "q": "double", "float": "double", "c": "category"}


def recognise(names: tuple[str, ...]) -> bool:
    """A lone file of UBJSON or JSON."""
    return len(names) == 1 and names[0].endswith((".ubj", ".json", ".xgb"))


def code_in(artifact: Artifact) -> list[str]:
    """None, but for pickles that go by another name."""
    name = _file(artifact)
    with artifact.path(name).open("rb") as file:
        head = file.read(2)
    if head[:1] == b"{":  # both formats begin an object so
        return []
    return [f"{name} is not in XGBoost's own formats; what else it reads may be a pickle"]


def signature_of(artifact: Artifact) -> Signature:
    """The features that the booster was trained on; without names, a list of numbers."""
    booster = _booster(artifact)
    names, types = booster.feature_names, booster.feature_types
    if not names:
        size = booster.num_features()
        return Signature((Column("input", tensor("float32", [-1, size])),))
    kinds = [_TYPES.get(t, "double") for t in types or ["q"] * len(names)]
    if "category" in kinds:
        raise CheckpointError(
            f"{_file(artifact)} has categorical features, whose values it does not name. Log it "
            "to MLflow with a signature."
        )
    return Signature(
        tuple(
            Column(n, scalar(k if k != "double" else "float64"), required=False)
            for n, k in zip(names, kinds, strict=True)
        )
    )


def load(artifact: Artifact, signature: Signature) -> Model:
    """The booster behind `Booster`."""
    return Booster(_booster(artifact), signature)


class Booster:
    """Asks a booster; labels and probabilities of classifiers, numbers of others.

    Args:
        booster: XGBoost's.
        signature: Its inputs, of which there must be as many as features.

    Raises:
        CheckpointError: If there are not.
    """

    def __init__(self, booster: Any, signature: Signature) -> None:
        self._booster = booster
        learner = json.loads(booster.save_config())["learner"]
        self._objective = learner["objective"]["name"]
        count = int(learner["learner_model_param"]["num_class"])
        if self._objective in ("binary:logistic", "multi:softprob", "multi:softmax"):
            self.classes_ = list(range(max(count, 2)))
        given = [column.name for column in signature.columns]
        size = booster.num_features()
        if len(given) != size and not signature.columns[0].shape:
            raise CheckpointError(
                f"The signature has {len(given)} inputs, and the booster takes {size} features. "
                "Log the model with the signature of what it was trained on."
            )

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """One entry per row."""
        import xgboost

        names = self._booster.feature_names
        if names and not is_matrix(inputs) and set(names) == set(inputs):
            inputs = {name: inputs[name] for name in names}
        matrix = as_matrix(inputs, "float32")
        data = xgboost.DMatrix(matrix, feature_names=names, feature_types=self._types())
        if self._objective == "multi:softmax":
            # It answers labels alone; of the margins come the probabilities that softprob gives.
            return {"probabilities": _softmax(self._booster.predict(data, output_margin=True))}
        found = self._booster.predict(data)
        if self._objective == "binary:logistic":
            return {"probabilities": np.column_stack([1 - found, found])}
        if self._objective == "multi:softprob":
            return {"probabilities": found}
        return {"prediction": found}

    def _types(self) -> Any:
        return self._booster.feature_types


def _softmax(margins: Any) -> np.ndarray[Any, Any]:
    exponents = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _file(artifact: Artifact) -> str:
    given = artifact.flavor.get("data")
    name = artifact.names[0] if given is None else given
    artifact.path(name)
    return str(name)


def _booster(artifact: Artifact) -> Any:
    import xgboost

    name = _file(artifact)
    try:
        return xgboost.Booster(model_file=artifact.path(name))
    except xgboost.core.XGBoostError as error:
        raise CheckpointError(f"{name} is no booster that XGBoost reads: {error}") from error
