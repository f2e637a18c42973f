"""LightGBM: boosters in its own text format, which holds no code, and estimators as skops files.

The text says nothing of the names of classes, which are 0, 1, and so on; an estimator of the
scikit-learn face has them. Categories of pandas stand in the text: they are given by their names,
and one that is not known counts as missing, as in LightGBM itself. It does not know where the files
came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks import sklearn
from salver.models.frameworks.tables import Features, codes_of, kind_of
from salver.models.signature import Column, Signature, scalar, tensor

LIBRARY = "lightgbm"
MODULES = ("lightgbm",)
EXTRA = "lightgbm"
FLAVORS = ("lightgbm",)

_HEAD, _END = b"tree\n", b"\nend of trees\n"


def recognise(names: tuple[str, ...]) -> bool:
    """A lone text file."""
    return len(names) == 1 and names[0].endswith((".txt", ".lgb"))


def code_in(artifact: Artifact) -> list[str]:
    """None in a booster's text; estimators of the scikit-learn face are skops or pickles."""
    return [] if _is_text(artifact) else sklearn.code_in(_as_sklearn(artifact))


def signature_of(artifact: Artifact) -> Signature:
    """The features that the booster was trained on; any may be missing.

    Without names, a list of numbers.
    """
    booster = _booster(artifact)
    names = _names(booster)
    if names is None:
        return Signature((Column("input", tensor("float64", [-1, booster.num_feature()])),))
    categories = _categories(booster, names)
    kinds = [kind_of(categories.get(name, ())) or "float64" for name in names]
    pairs = zip(names, kinds, strict=True)
    return Signature(tuple(Column(n, scalar(k), required=False) for n, k in pairs))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The booster behind `Booster`, or an estimator behind scikit-learn's adapter."""
    if _is_text(artifact):
        return Booster(_booster(artifact), signature)
    as_sklearn = _as_sklearn(artifact)
    if sklearn.code_in(as_sklearn):
        return sklearn.load(as_sklearn, signature)
    return _of_estimator(artifact, signature)


class Booster:
    """Asks a booster; labels and probabilities of classifiers, numbers of others.

    Args:
        booster: LightGBM's.
        signature: Its inputs.
        classes: Names of the classes, if they are known.

    Raises:
        CheckpointError: If the inputs are not the features of the booster.
    """

    def __init__(
        self, booster: Any, signature: Signature, classes: Sequence[Any] | None = None
    ) -> None:
        self._booster = booster
        self._objective = _header(booster).get("objective", "").split(" ", 1)[0]
        if self._objective in ("multiclass", "multiclassova", "binary"):
            count = max(booster.num_model_per_iteration(), 2)
            self.classes_ = list(range(count) if classes is None else classes)
        names = _names(booster)
        categories = _categories(booster, names or [])
        if names is not None:
            given = [column.name for column in signature.columns]
            names, categories = _as_given(names, categories, given)
        self._features = Features(
            signature, booster.num_feature(), names, categories, unknown_is_missing=True
        )

    def __call__(self, inputs: Inputs) -> dict[str, Any]:
        """One entry per row."""
        found = np.asarray(self._booster.predict(self._features.matrix(inputs, "float64")))
        if self._objective == "binary":
            return {"probabilities": np.column_stack([1 - found, found])}
        if self._objective == "multiclass":
            return {"probabilities": found}
        if self._objective == "multiclassova":  # one model for each class: they do not sum to 1
            labels = [self.classes_[i] for i in found.argmax(axis=1)]
            return {"prediction": labels, "score": found}
        return {"prediction": found}


def _names(booster: Any) -> list[str] | None:
    """Names of the features; null if it was trained without, for it makes some up."""
    names: list[str] = booster.feature_name()
    return None if names == [f"Column_{i}" for i in range(len(names))] else names


def _as_given(
    names: list[str], categories: dict[str, dict[Any, int]], given: list[str]
) -> tuple[list[str], dict[str, dict[Any, int]]]:
    """The names with the blanks that LightGBM has made underlines of, where the signature has."""
    known = {name.replace(" ", "_"): name for name in given}
    by_name = {known.get(name, name): codes for name, codes in categories.items()}
    return [known.get(name, name) for name in names], by_name


def _header(booster: Any) -> dict[str, str]:
    """The lines that come before the trees."""
    text: str = booster.model_to_string(num_iteration=1)
    lines = text.split("\n\n", 1)[0].splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _categories(booster: Any, names: list[str]) -> dict[str, dict[Any, int]]:
    """The categories of pandas, by feature; the text lists them without the features' names.

    Raises:
        CheckpointError: If it cannot be told which are whose.
    """
    listed = booster.pandas_categorical or []
    if not listed:
        return {}
    infos = _header(booster)["feature_infos"].split(" ")
    # Numbers have a range in brackets, and features without any use have "none".
    whose = [n for n, i in zip(names, infos, strict=True) if i[0] != "[" and i != "none"]
    if len(whose) != len(listed):
        raise CheckpointError(
            f"The booster has {len(listed)} lists of categories and {len(whose)} features that "
            "they may be of. Train it without features that have a single value, and with all "
            "categories as pandas categories."
        )
    return {name: codes_of(known) for name, known in zip(whose, listed, strict=True)}


def _of_estimator(artifact: Artifact, signature: Signature) -> Model:
    """The booster within an estimator, which would take more threads than it is given."""
    import skops.io

    path = artifact.path(artifact.file("data"))
    estimator = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    booster = getattr(estimator, "booster_", None)
    if booster is None or callable(estimator.objective):
        return sklearn.Estimator(estimator)
    return Booster(booster, signature, getattr(estimator, "classes_", None))


def _is_text(artifact: Artifact) -> bool:
    with artifact.path(artifact.file("data")).open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD


def _as_sklearn(artifact: Artifact) -> Artifact:
    flavor = {**artifact.flavor, "pickled_model": artifact.file("data")}
    return Artifact(artifact.folder, artifact.names, flavor)


def _booster(artifact: Artifact) -> Any:
    import lightgbm

    name = artifact.file("data")
    text = artifact.path(name).read_bytes()
    # Of a text that is cut off, LightGBM ends the process.
    if not text.startswith(_HEAD) or _END not in text:
        raise CheckpointError(
            f"{name} is no booster in LightGBM's text format, or not all of it. Save it with "
            "booster_.save_model('model.txt')."
        )
    try:
        return lightgbm.Booster(model_str=text.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{name} is no booster that LightGBM reads: {error}") from error
