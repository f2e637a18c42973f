"""scikit-learn: estimators and pipelines, from skops files or, if code is allowed, pickles.

It does not know where the files came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from salver.errors import CheckpointError, MissingExtra
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.tables import as_table
from salver.models.signature import Signature, no_signature

LIBRARY = "scikit-learn"
MODULES = ("sklearn", "pandas")
EXTRA = "sklearn"
FLAVORS = ("sklearn",)

_PICKLES = (".pkl", ".pickle", ".joblib", ".cloudpickle")
# Whose predict() is by definition the class with the largest of predict_proba().
_ARGMAX = {"ForestClassifier", "DecisionTreeClassifier", "BaggingClassifier", "MLPClassifier"}


def recognise(names: tuple[str, ...]) -> bool:
    """A lone skops file or pickle."""
    return len(names) == 1 and names[0].endswith((".skops", *_PICKLES))


def code_in(artifact: Artifact) -> list[str]:
    """Pickles, whatever they are called; and skops files with types beyond those that it knows."""
    name = _file(artifact)
    if not name.endswith(".skops"):
        return [f"{name} is a pickle, which can run anything when it is read"]
    foreign = _foreign_types(artifact, name)
    if foreign:
        return [f"{name} holds objects of {', '.join(foreign)}, which would be imported and called"]
    return []


def signature_of(artifact: Artifact) -> Signature:
    """A pickle does not say without being run."""
    raise no_signature(_file(artifact))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The estimator behind `Estimator`."""
    name = _file(artifact)
    path = artifact.path(name)
    if name.endswith(".skops"):
        import skops.io

        # Those that are there were refused before, or allowed by the user for this model.
        return Estimator(skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path)))
    if artifact.flavor.get("serialization_format") == "cloudpickle":
        import cloudpickle

        with path.open("rb") as file:
            return Estimator(cloudpickle.load(file))
    import joblib

    return Estimator(joblib.load(path))  # reads plain pickles too


class Estimator:
    """Asks an estimator as scikit-learn's users do.

    Args:
        estimator: With `predict`, and `predict_proba` if it is a classifier that has it.

    Raises:
        CheckpointError: If it has no `predict`.
    """

    def __init__(self, estimator: Any) -> None:
        if not callable(getattr(estimator, "predict", None)):
            raise CheckpointError(
                f"A {type(estimator).__name__} has no predict(), so it cannot be served."
            )
        self._estimator = estimator
        classes: Any = getattr(estimator, "classes_", None)
        self._has_probabilities = hasattr(estimator, "predict_proba") and _is_one_list(classes)
        if self._has_probabilities:
            self.classes_ = list(classes)
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        self._is_argmax = not _ARGMAX.isdisjoint(base.__name__ for base in type(last).__mro__)

    def __call__(self, inputs: Inputs) -> Any:
        """Labels and probabilities of a classifier; numbers of a regressor."""
        table = as_table(inputs, getattr(self._estimator, "feature_names_in_", None))
        answer: dict[str, Any] = {}
        if self._has_probabilities:
            answer["probabilities"] = self._estimator.predict_proba(table)
        if not (self._has_probabilities and self._is_argmax):
            answer["prediction"] = np.asarray(self._estimator.predict(table))
        return answer


def _is_one_list(classes: Any) -> bool:
    """False for models of several outputs, which have a list of classes for each."""
    return isinstance(classes, np.ndarray) and classes.ndim == 1


def _file(artifact: Artifact) -> str:
    given = artifact.flavor.get("pickled_model")
    name = artifact.names[0] if given is None else given
    artifact.path(name)
    return str(name)


def _foreign_types(artifact: Artifact, name: str) -> list[str]:
    try:
        import skops.io
    except ModuleNotFoundError:
        raise MissingExtra("skops", "A model of scikit-learn", EXTRA) from None
    try:
        return sorted(skops.io.get_untrusted_types(file=artifact.path(name)))
    except Exception as error:  # of a damaged file, skops lets any error of its parsers through
        raise CheckpointError(f"{name} is no readable skops file: {error}") from error
