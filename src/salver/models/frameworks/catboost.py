"""CatBoost: models in its own formats, CBM and JSON, which hold trees and no code.

A bare file is `*.cbm`, or `*.cbm.json` for its JSON. Names of features and classes stand in the
file. A model is asked as the class that CatBoost has for its loss would be: probabilities and
labels of a classifier, with the threshold that was set; an expected count of a Poisson regressor.
Categories are texts or whole numbers and are never missing, for CatBoost refuses both fractions and
missing values in training. It does not know where the files came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.tables import Features
from salver.models.signature import Column, Signature, scalar, tensor
from salver.settings import math_threads

LIBRARY = "catboost"
MODULES = ("catboost",)
EXTRA = "catboost"
FLAVORS = ("catboost",)

_HEADS = {b"CBM1": "cbm", b"{": "json"}
_SEVERAL = ("MultiLogloss", "MultiCrossEntropy")  # labels that do not exclude each other
# What CatBoostRegressor.predict() answers with, where it is not the plain sum of the leaves.
_ANSWERS = {
    "Poisson": "Exponent",
    "Tweedie": "Exponent",
    "RMSEWithUncertainty": "RMSEWithUncertainty",
}


def recognise(names: tuple[str, ...]) -> bool:
    """A lone file of CatBoost's; JSON by both suffixes, for boosters of others are JSON too."""
    return len(names) == 1 and names[0].endswith((".cbm", ".cbm.json"))


def code_in(artifact: Artifact) -> list[str]:
    """None: what is in neither format is not read at all."""
    artifact.path(artifact.file("data"))
    return []


def signature_of(artifact: Artifact) -> Signature:
    """The features that the model was trained on; without names, a list of numbers."""
    model = _model(artifact)
    if model.get_embedding_feature_indices():
        raise CheckpointError(
            f"{artifact.file('data')} has embeddings as features, and does not say how long they are. "
            "Log it to MLflow with a signature."
        )
    names, texts = _names(model), _texts(model)
    if names is None and not texts:
        return Signature((Column("input", tensor("float64", [-1, len(model.feature_names_)])),))
    return Signature(
        tuple(
            Column(name, scalar("object" if i in texts else "float64"), required=i in texts)
            for i, name in enumerate(model.feature_names_)
        )
    )


def load(artifact: Artifact, signature: Signature) -> Model:
    """The model behind `Booster`."""
    return Booster(_model(artifact), signature)


class Booster:
    """Asks a model; labels and probabilities of classifiers, numbers of others.

    Args:
        model: CatBoost's.
        signature: Its inputs.

    Raises:
        CheckpointError: If they are not the features of the model.
    """

    def __init__(self, model: Any, signature: Signature) -> None:
        self._model = model
        self._loss = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
        self._is_classifier = len(model.classes_) > 0
        if self._is_classifier and self._loss not in _SEVERAL:
            self.classes_ = list(model.classes_)
        self._has_threshold = (
            len(model.classes_) == 2
            and self._loss not in _SEVERAL
            and model.get_probability_threshold() != 0.5
        )
        self._inputs = _Pools(model, signature)

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """One entry per row."""
        pool = self._inputs(inputs)
        if not self._is_classifier:
            return {"prediction": self._ask(pool, _ANSWERS.get(self._loss, "RawFormulaVal"))}
        scores = self._ask(pool, "Probability")
        if self._loss in _SEVERAL:
            return {"prediction": self._ask(pool, "Class"), "score": scores}
        answer = {"probabilities": scores}
        if self._has_threshold:  # else the label is that of the largest
            answer["prediction"] = self._ask(pool, "Class").reshape(-1)
        return answer

    def _ask(self, pool: Any, kind: str) -> np.ndarray[Any, Any]:
        threads = math_threads() or -1  # CatBoost has a pool of its own, as large as the machine
        return np.asarray(self._model.predict(pool, prediction_type=kind, thread_count=threads))


class _Pools:
    """Makes CatBoost's tables of typed columns, with the features in the model's order."""

    def __init__(self, model: Any, signature: Signature) -> None:
        names, count = _names(model), len(model.feature_names_)
        self._kinds = {
            "cat_features": list(model.get_cat_feature_indices()),
            "text_features": list(model.get_text_feature_indices()),
            "embedding_features": list(model.get_embedding_feature_indices()),
        }
        self._others = {i for indices in self._kinds.values() for i in indices}
        self._names = model.feature_names_
        self._features = Features(signature, count, names, others=self._others)
        if self._others and signature.columns[0].shape and count > 1:
            raise CheckpointError(
                "The signature has one list of numbers, and the model takes texts and categories "
                "too. Log it with a signature of a DataFrame."
            )
        columns = {column.name: column for column in signature.columns}
        for i, name in enumerate(self._features.order):
            _check(columns[name], i, self._kinds)

    def __call__(self, inputs: Inputs) -> Any:
        import catboost
        import pandas as pd

        if not self._others:
            matrix = self._features.matrix(inputs, "float64")
            return catboost.Pool(matrix, feature_names=self._names)
        columns = [inputs[name] for name in self._features.order]
        for i in self._kinds["cat_features"]:
            columns[i] = np.array([_category(v) for v in columns[i].tolist()], dtype=object)
        frame = pd.DataFrame(
            {
                name: pd.Series(list(values), dtype=object if i in self._others else float)
                for i, (name, values) in enumerate(zip(self._names, columns, strict=True))
            }
        )
        return catboost.Pool(frame, **self._kinds)


def _check(column: Column, i: int, kinds: dict[str, list[int]]) -> None:
    """Checks the type of a column against the kind of its feature; raises CheckpointError."""
    dtype, wanted = str(column.dtype), ""
    if i in kinds["text_features"] and dtype != "str":
        wanted = "texts"
    if i in kinds["cat_features"] and dtype != "str" and "int" not in dtype:
        wanted = "texts or whole numbers"
    if wanted:
        raise CheckpointError(
            f"The signature says that {column.name!r} is of {dict(column.type)!r}, and the model "
            f"takes {wanted} there. Log the model with the signature of what it was trained on."
        )


def _category(value: Any) -> Any:
    # A column of integers with a missing one comes as floats; CatBoost refuses both it and NaN.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _names(model: Any) -> list[str] | None:
    """Names of the features; null if it was trained without, for it counts them then."""
    names: list[str] = model.feature_names_
    return None if names == [str(i) for i in range(len(names))] else names


def _texts(model: Any) -> set[int]:
    return {*model.get_cat_feature_indices(), *model.get_text_feature_indices()}


def _model(artifact: Artifact) -> Any:
    import catboost

    name = artifact.file("data")
    path = artifact.path(name)
    with path.open("rb") as file:
        head = file.read(4)
    written = next((f for start, f in _HEADS.items() if head.startswith(start)), None)
    if written is None:
        raise CheckpointError(
            f"{name} is no model in CatBoost's CBM or JSON. Save it with save_model('model.cbm')."
        )
    try:
        model = catboost.CatBoost().load_model(path, format=written)
        if len(model.classes_):  # which alone knows its threshold
            model = catboost.CatBoostClassifier().load_model(path, format=written)
    except catboost.CatBoostError as error:
        raise CheckpointError(f"{name} is no model that CatBoost reads: {error}") from error
    if not model.feature_names_:
        raise CheckpointError(f"{name} is no model of CatBoost: it takes no features.")
    return model
