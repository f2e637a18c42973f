"""Graphs of boosters of LightGBM and XGBoost, as such and with the face of scikit-learn.

onnxmltools has the converters, and skl2onnx calls them. What else it does not know is how near a
graph must be.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from salver.errors import CheckpointError, MissingExtra
from salver.models.variants.booster_part import BoosterPart
from salver.models.variants.parts import Call
from salver.models.variants.runtimes import EXTRA, open_runtime
from salver.models.variants.sklearn_part import arranged, table_of
from salver.optimization.export_sklearn import CHECKED, apart, write

_CONVERTERS = {
    "lightgbm": ("lightgbm.operator_converters.LightGbm", "convert_lightgbm", "LGBM"),
    "xgboost": ("xgboost.operator_converters.XGBoost", "convert_xgboost", "XGB"),
}
# Options of a call that its graph can follow; others change what the numbers mean.
_FOLLOWED: dict[str, tuple[Any, ...]] = {
    "predict_type": ("value",),
    "validate_features": (True, False),
}


def to_onnx(part: BoosterPart, calls: Sequence[Call], path: Path) -> None:
    """Writes the booster as an ONNX graph.

    Its inputs are the arrays of the calls, in their order and of their dtypes; its last output are
    the numbers that the booster gives, or both probabilities where it gives that of one class.

    Args:
        part: The booster.
        calls: What it was given, all of one form.
        path: Of the file.

    Raises:
        CheckpointError: If it cannot be converted.
        MissingExtra: If onnxmltools is not installed.
    """
    if importlib.util.find_spec("onnxmltools") is None:
        raise MissingExtra("onnxmltools", "A variant of a booster", EXTRA)
    options = calls[0].constants["options"]
    start, end = options.get("iteration_range") or (0, 0)
    for name, value in options.items():
        if name != "iteration_range" and value not in _FOLLOWED.get(name, ()):
            raise CheckpointError(
                f"The booster is asked with {name}={value!r}, as no graph can be."
            )
    booster = part.value[start:end] if end else part.value
    try:
        face = _face(booster, part.method)
    except Exception as error:
        raise CheckpointError(f"onnxmltools cannot convert this booster: {error}") from error
    methods = ["predict", "predict_proba"] if hasattr(face, "classes_") else ["predict"]
    asked = replace(calls[0], constants={**calls[0].constants, "methods": methods})
    write(face, asked, path, partial(_difference, part, calls, path))


def _difference(part: BoosterPart, calls: Sequence[Call], path: Path) -> float:
    runtime = open_runtime("onnxruntime", path, "fp32")
    worst = 0.0
    for call in calls[:CHECKED]:
        found = runtime(list(call.arrays.values()))[-1]
        ask = getattr(part.value, part.method)
        expected = np.asarray(ask(table_of(call), **call.constants["options"]))
        worst = max(worst, apart(expected, arranged(found, expected)))
    return worst


def _face(booster: Any, method: str) -> Any:
    """An estimator of scikit-learn's kind around a booster, as far as converters look at it."""
    if method == "predict":
        return _of_lightgbm(booster)
    return _of_xgboost(booster)


def _of_lightgbm(booster: Any) -> Any:
    import lightgbm

    described = booster.dump_model(num_iteration=1)
    if described.get("average_output"):
        raise CheckpointError("it is a random forest, which onnxmltools takes for one of 100 trees")
    objective = str(described.get("objective", "")).partition(" ")[0]
    if objective not in ("binary", "multiclass"):
        face = lightgbm.LGBMRegressor()
    else:
        face = lightgbm.LGBMClassifier()
        face._n_classes = max(booster.num_model_per_iteration(), 2)
        face._classes = np.arange(face._n_classes)
    face._Booster, face.fitted_, face._n_features = booster, True, booster.num_feature()
    return face


def _of_xgboost(booster: Any) -> Any:
    import xgboost

    learner: Mapping[str, Any] = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    if objective not in ("binary:logistic", "multi:softprob"):
        face = xgboost.XGBRegressor(objective=objective)
    else:
        face = xgboost.XGBClassifier(objective=objective)
        face.n_classes_ = max(int(learner["learner_model_param"]["num_class"]), 2)
    face._Booster = booster
    return face


def faces() -> list[type]:
    """The estimators of LightGBM and XGBoost, made known to skl2onnx if they are in use.

    None without onnxmltools, which has their converters.
    """
    if importlib.util.find_spec("onnxmltools") is None:
        return []
    skl2onnx: Any = importlib.import_module("skl2onnx")
    shapes: Any = importlib.import_module("skl2onnx.common.shape_calculator")
    found: list[type] = []
    for library, (module, converter, short) in _CONVERTERS.items():
        if library not in sys.modules:
            continue
        convert = getattr(importlib.import_module(f"onnxmltools.convert.{module}"), converter)
        if library == "xgboost":
            convert = _without_names(convert)
        classifier = getattr(sys.modules[library], f"{short}Classifier")
        regressor = getattr(sys.modules[library], f"{short}Regressor")
        skl2onnx.update_registered_converter(
            classifier,
            f"Salver{short}Classifier",
            shapes.calculate_linear_classifier_output_shapes,
            convert,
            options={"zipmap": [True, False], "nocl": [True, False]},
        )
        skl2onnx.update_registered_converter(
            regressor,
            f"Salver{short}Regressor",
            shapes.calculate_linear_regressor_output_shapes,
            convert,
        )
        found += [classifier, regressor]
    return found


def _without_names(convert: Callable[..., None]) -> Callable[..., None]:
    """The converter of XGBoost, for features of any names; it knows f0, f1 and so on."""

    def converted(scope: Any, operator: Any, container: Any) -> None:
        estimator = copy.copy(operator.raw_operator)
        booster = estimator.get_booster().copy()
        if "c" in (booster.feature_types or ()):
            raise CheckpointError("It has categories, on which onnxmltools cannot part trees.")
        booster.feature_names = None
        estimator._Booster = booster
        operator.raw_operator = estimator
        convert(scope, operator, container)

    return converted
