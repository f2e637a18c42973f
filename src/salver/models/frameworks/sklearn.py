"""scikit-learn: estimators and pipelines, from skops files or, if code is allowed, pickles.

It does not know where the files came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from salver.errors import CheckpointError, MissingExtra
from salver.models.description import Artifact, Inputs, Model
from salver.models.frameworks.tables import as_table, is_matrix
from salver.models.signature import Signature, no_signature
from salver.models.unpickling import with_cloudpickle, with_joblib

LIBRARY = "scikit-learn"
MODULES = ("sklearn", "pandas")
EXTRA = "sklearn"
FLAVORS = ("sklearn",)

_PICKLES = (".pkl", ".pickle", ".joblib", ".cloudpickle")
# Parts of estimators that skops does not trust by itself, for it is not sure of every argument.
# None of them imports, opens or calls what a file names.
_PARTS = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRanker",
        "lightgbm.sklearn.LGBMRegressor",
        "numpy.dtype",
        "numpy.mean",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
# Whose predict() is by definition the class with the largest of predict_proba().
_ARGMAX = {"ForestClassifier", "DecisionTreeClassifier", "BaggingClassifier", "LGBMModel"}


def recognise(names: tuple[str, ...]) -> bool:
    """A lone skops file or pickle."""
    return len(names) == 1 and names[0].endswith((".skops", *_PICKLES))


def code_in(artifact: Artifact) -> list[str]:
    """Pickles, whatever they are called; and skops files with types beyond those that it knows."""
    name = artifact.file("pickled_model")
    if not name.endswith(".skops"):
        return [f"{name} is a pickle, which can run anything when it is read"]
    foreign = _foreign_types(artifact, name)
    if foreign:
        return [f"{name} holds objects of {', '.join(foreign)}, which would be imported and called"]
    return []


def signature_of(artifact: Artifact) -> Signature:
    """A pickle does not say without being run."""
    raise no_signature(artifact.file("pickled_model"))


def load(artifact: Artifact, signature: Signature) -> Model:
    """The estimator behind `Estimator`."""
    name = artifact.file("pickled_model")
    path = artifact.path(name)
    if name.endswith(".skops"):
        import skops.io

        # Those that are there were refused before, or allowed by the user for this model.
        return Estimator(skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path)))
    if artifact.flavor.get("serialization_format") == "cloudpickle":
        return Estimator(with_cloudpickle(path))
    return Estimator(with_joblib(path))


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
        table = self._table(inputs)
        answer: dict[str, Any] = {}
        if self._has_probabilities:
            answer["probabilities"] = self._estimator.predict_proba(table)
        if not (self._has_probabilities and self._is_argmax):
            answer["prediction"] = np.asarray(self._estimator.predict(table))
        return answer

    def _table(self, inputs: Inputs) -> Any:
        names = getattr(self._estimator, "feature_names_in_", None)
        if len(inputs) > 1 or names is not None or is_matrix(inputs):
            return as_table(inputs, names)
        # One that was not trained on a DataFrame would take the column's name for the only text.
        (values,) = inputs.values()
        return values[:, None] if hasattr(self._estimator, "n_features_in_") else values


def _is_one_list(classes: Any) -> bool:
    """False for models of several outputs, which have a list of classes for each."""
    return isinstance(classes, np.ndarray) and classes.ndim == 1


def _foreign_types(artifact: Artifact, name: str) -> list[str]:
    try:
        import skops.io
    except ModuleNotFoundError:
        raise MissingExtra("skops", "A model of scikit-learn", EXTRA) from None
    try:
        return sorted(set(skops.io.get_untrusted_types(file=artifact.path(name))) - _PARTS)
    except Exception as error:  # of a damaged file, skops lets any error of its parsers through
        raise CheckpointError(f"{name} is no readable skops file: {error}") from error
