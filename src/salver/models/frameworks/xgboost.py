"""XGBoost: boosters in its own formats, UBJSON and JSON, which hold no code.

An estimator of the scikit-learn face is saved as its booster. It answers as the estimator did, with
the trees up to the best iteration if training was stopped early; a booster of `xgboost.train`
answers with all of its trees, as its own `predict` does. Classes have no names in these files: they
are 0, 1, and so on. It does not know where the files came from.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.tables import Features, codes_of, kind_of
from salver.models.signature import Column, Signature, scalar, tensor

LIBRARY = "xgboost"
MODULES = ("xgboost",)
EXTRA = "xgboost"
FLAVORS = ("xgboost",)

_TYPES = {"int": "int64", "i": "bool", "c": "int64"}  # a category without known names is its code


def recognise(names: tuple[str, ...]) -> bool:
    """A lone file of UBJSON or JSON."""
    return len(names) == 1 and names[0].endswith((".ubj", ".json", ".xgb"))


def code_in(artifact: Artifact) -> list[str]:
    """None: what is not in XGBoost's own formats is not read at all."""
    artifact.path(artifact.file("data"))
    return []


def signature_of(artifact: Artifact) -> Signature:
    """The features that the booster was trained on; without names, a list of numbers."""
    booster = _booster(artifact)
    names = booster.feature_names
    if not names:
        return Signature((Column("input", tensor("float32", [-1, booster.num_features()])),))
    categories = _categories(booster)
    types = booster.feature_types or ["float"] * len(names)
    columns = []
    for name, given in zip(names, types, strict=True):
        known = kind_of(categories.get(name, ()))
        columns.append(Column(name, scalar(known or _TYPES.get(given, "float64")), required=False))
    return Signature(tuple(columns))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The booster behind `Booster`."""
    return Booster(_booster(artifact), signature)


class Booster:
    """Asks a booster; labels and probabilities of classifiers, numbers of others.

    Args:
        booster: XGBoost's.
        signature: Its inputs.

    Raises:
        CheckpointError: If they are not the features of the booster.
    """

    def __init__(self, booster: Any, signature: Signature) -> None:
        self._booster = booster
        learner = json.loads(booster.save_config())["learner"]
        self._objective = learner["objective"]["name"]
        parameters = learner["learner_model_param"]
        self._has_several_targets = int(parameters.get("num_target", 1)) > 1
        is_classifier = self._objective in ("binary:logistic", "multi:softprob", "multi:softmax")
        if is_classifier and not self._has_several_targets:
            self.classes_ = list(range(max(int(parameters["num_class"]), 2)))
        kind = learner["gradient_booster"]["name"]
        self._is_linear = kind == "gblinear"
        self._trees = _trees(booster, kind)
        names = booster.feature_names
        self._features = Features(signature, booster.num_features(), names, _categories(booster))

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """One entry per row."""
        matrix = self._features.matrix(inputs, "float32")
        if self._objective == "multi:softmax":
            # It answers labels alone; of the margins come the probabilities that softprob gives.
            return {"probabilities": _softmax(self._predict(matrix, "margin"))}
        found = self._predict(matrix, "value")
        if self._objective == "binary:logistic":
            if self._has_several_targets:  # labels that do not exclude each other
                return {"prediction": (found > 0.5).astype(int), "score": found}
            return {"probabilities": np.column_stack([1 - found, found])}
        if self._objective == "multi:softprob":
            return {"probabilities": found}
        return {"prediction": found}

    def _predict(self, matrix: np.ndarray[Any, Any], kind: str) -> Any:
        if not self._is_linear:
            # Without a DMatrix, which takes longer to make than a few trees to ask.
            return self._booster.inplace_predict(
                matrix, iteration_range=self._trees, predict_type=kind
            )
        import xgboost

        names, types = self._booster.feature_names, self._booster.feature_types
        data = xgboost.DMatrix(matrix, feature_names=names, feature_types=types)
        is_margin = kind == "margin"
        return self._booster.predict(data, output_margin=is_margin, iteration_range=self._trees)


def _trees(booster: Any, kind: str) -> tuple[int, int]:
    """The range of trees to ask; (0, 0) stands for all."""
    is_estimator = booster.attr("scikit_learn") is not None
    if kind == "gblinear" or not is_estimator or booster.attr("best_iteration") is None:
        return (0, 0)
    return (0, int(booster.best_iteration) + 1)


def _categories(booster: Any) -> dict[str, dict[Any, int]]:
    """The categories of each feature that has them, if the file holds them (from XGBoost 3.1 on).

    Raises:
        CheckpointError: If XGBoost has cut them off.
    """
    has_any = booster.feature_names and "c" in (booster.feature_types or ())
    if not has_any or not hasattr(booster, "get_categories"):
        return {}
    found = booster.get_categories(export_to_arrow=True).to_arrow()
    try:
        named = {name: array.to_pylist() for name, array in found if array is not None}
    except UnicodeDecodeError:
        named = {"": ["\ufffd"]}
    texts = [text for known in named.values() for text in known if isinstance(text, str)]
    if not all(text.isascii() for text in texts):
        # It counts letters and keeps bytes (seen in 3.2.0): "Köln" and "Ulm" come back as "Köl"
        # and "nUl", without a sign of which they were.
        raise CheckpointError(
            "The booster has categories with letters beyond ASCII, which XGBoost does not keep "
            "whole. Give them numbers or ASCII names, and train it again."
        )
    return {name: codes_of(known) for name, known in named.items()}


def _softmax(margins: Any) -> np.ndarray[Any, Any]:
    exponents = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _booster(artifact: Artifact) -> Any:
    import xgboost

    name = artifact.file("data")
    content = artifact.path(name).read_bytes()
    # Both formats begin with an object; of other bytes XGBoost may end the process.
    if not content.startswith(b"{"):
        raise CheckpointError(
            f"{name} is no booster in UBJSON or JSON. Save it with Booster.save_model('model.ubj')."
        )
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))  # the format is told by the bytes, not by the name
    except xgboost.core.XGBoostError as error:
        reason = str(error).partition("\n")[0]  # below it stands the stack of its own code
        raise CheckpointError(f"{name} is no booster that XGBoost reads: {reason}") from error
    if not booster.num_features():
        raise CheckpointError(f"{name} is no booster: it takes no features.")
    return booster
