"""Graphs of scikit-learn's estimators, with doubles where scikit-learn computes in doubles.

skl2onnx converts; several of its converters lose doubles, or write a graph of mixed types that no
runtime loads. So trees, imputers and texts are converted as is said here, the types of the graph
are mended, and of several ways to convert the first is taken whose answers are the estimator's. It
does not judge a graph: if none of them is right, the nearest is written.
"""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.variants.parts import Array, Call
from salver.models.variants.runtimes import open_runtime
from salver.models.variants.sklearn_part import SklearnPart, arranged, places_of, table_of

NEAR = 1e-5  # difference, of answers around 1, up to which no other way is tried
CHECKED = 20  # calls that a graph is compared on here
# How scikit-learn's patterns of tokens are written for RE2, whose \w knows ASCII alone.
_TOKENS = {
    r"(?u)\b\w\w+\b": r"[\p{L}\p{N}_]{2,}",
    r"(?u)\b\w+\b": r"[\p{L}\p{N}_]+",
    r"\b\w+\b": r"[\p{L}\p{N}_]+",
}
_LOCALE = "C.UTF-8"  # is on every Linux; en_US.UTF-8, which skl2onnx takes by itself, is not
_OF_FLOATS = {"nodes_values", "nodes_hitrates", "class_weights", "target_weights", "base_values"}
_FLOAT, _INT64, _DOUBLE = 1, 7, 11  # of onnx.TensorProto


def to_onnx(part: SklearnPart, calls: Sequence[Call], path: Path) -> None:
    """Writes the estimator as an ONNX graph.

    Its inputs are the arrays of the calls, in their order and of their dtypes, for any number of
    rows; they have other names, since those of columns may be those of its outputs. Its outputs are
    the labels and the probabilities of a classifier, or the numbers of another estimator.

    Args:
        part: The estimator.
        calls: What it was given, all of one form.
        path: Of the file.

    Raises:
        CheckpointError: If it cannot be converted.
    """
    for one in _within(part.value):
        # OneHotEncoder alone has an operator that fails, too.
        if getattr(one, "handle_unknown", "") == "error" and type(one).__name__ != "OneHotEncoder":
            raise CheckpointError(
                f"The {type(one).__name__} refuses a category that it does not know, and a graph "
                "would take it for another. Train it with handle_unknown='use_encoded_value'."
            )
    write(part.value, calls[0], path, lambda: _difference(part, calls, path))


def write(estimator: Any, call: Call, path: Path, difference: Callable[[], float]) -> None:
    """Writes the graph that is nearest to an estimator, of all that can be made of it.

    Args:
        estimator: What is converted.
        call: What it was given, and which methods were asked.
        path: Of the file.
        difference: How far the graph at `path` is from the estimator.

    Raises:
        CheckpointError: If there is none.
    """
    failures = []
    nearest: tuple[float, bytes] | None = None
    for in_doubles, is_matrix in _ways(call):
        try:
            graph = _converted(estimator, call, in_doubles, is_matrix)
            path.write_bytes(graph)
            found = difference()
        except Exception as error:  # noqa: BLE001 - skl2onnx and the runtime raise anything
            failures.append(f"{type(error).__name__}: {str(error).strip()[:300]}")
            continue
        if nearest is None or found < nearest[0]:
            nearest = found, graph
        if found < NEAR:
            break
    if nearest is None:
        path.unlink(missing_ok=True)
        raise CheckpointError(
            f"skl2onnx cannot convert this {type(estimator).__name__}: "
            f"{'; '.join(dict.fromkeys(failures))}"
        )
    path.write_bytes(nearest[1])


def _ways(call: Call) -> list[tuple[bool, bool]]:
    """Whether to compute in doubles, and whether to put columns side by side first."""
    is_numeric = all(array.dtype != object for array in call.arrays.values())
    return list(itertools.product([True, False], [True, False] if is_numeric else [False]))


def _converted(estimator: Any, call: Call, in_doubles: bool, is_matrix: bool) -> bytes:
    skl2onnx: Any = importlib.import_module("skl2onnx")
    kinds: Any = importlib.import_module("skl2onnx.common.data_types")
    number = kinds.DoubleTensorType if in_doubles else kinds.FloatTensorType
    types = [
        (n, (kinds.StringTensorType if a.dtype == object else number)([None, *a.shape[1:]]))
        for n, a in call.arrays.items()
    ]
    if is_matrix:
        types = [("columns", number([None, sum(a.shape[1] for a in call.arrays.values())]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it is not sure of, which is compared
        model = skl2onnx.convert_sklearn(
            estimator,
            initial_types=types,
            target_opset={"": skl2onnx.get_latest_tested_opset_version(), "ai.onnx.ml": 3},
            options=_options(estimator, call.constants["methods"]),
            custom_conversion_functions=_own_converters(),
        )
    _mend(model, call.arrays)
    return bytes(model.SerializeToString())


def _options(estimator: Any, methods: Sequence[str]) -> dict[Any, dict[str, Any]]:
    """For each estimator within: no maps, the scores that are asked for, and whole words."""
    text: Any = importlib.import_module("sklearn.feature_extraction.text")
    base: Any = importlib.import_module("sklearn.base")
    options: dict[Any, dict[str, Any]] = {
        kind: {"locale": _LOCALE} for kind in (text.CountVectorizer, text.TfidfVectorizer)
    }
    for one in _within(estimator):
        if hasattr(one, "steps"):
            continue  # what is said of a pipeline is said of its last step, which may not know it
        if base.is_classifier(one):
            # The linear machine alone gives no map, and knows no such option.
            options[id(one)] = {} if type(one).__name__ == "LinearSVC" else {"zipmap": False}
            if "decision_function" in places_of(methods) and hasattr(one, "predict_proba"):
                options[id(one)]["raw_scores"] = True
        elif type(one) in options and one.token_pattern in _TOKENS:
            options[id(one)] = {"tokenexp": _TOKENS[one.token_pattern]}
    return options


def _within(estimator: Any) -> Iterator[Any]:
    """The estimator, and those that it holds one after or beside the other."""
    yield estimator
    for attribute in ("steps", "transformer_list", "transformers_"):
        for _, inner, *_ in getattr(estimator, attribute, ()):
            if not isinstance(inner, str):  # "drop" and "passthrough"
                yield from _within(inner)
    if hasattr(estimator, "best_estimator_"):
        yield from _within(estimator.best_estimator_)


def _difference(part: SklearnPart, calls: Sequence[Call], path: Path) -> float:
    """How far the graph is from the estimator: the largest of numbers, the share of labels."""
    runtime = open_runtime("onnxruntime", path, "fp32")
    worst = 0.0
    for call in calls[:CHECKED]:
        found = runtime(list(call.arrays.values()))
        for method, place in places_of(call.constants["methods"]).items():
            expected = np.asarray(getattr(part.value, method)(table_of(call)))
            worst = max(worst, apart(expected, arranged(found[place], expected)))
    return worst


def apart(expected: Array, found: Array) -> float:
    """The largest difference of numbers, where they are around 1; the share of other labels."""
    if expected.dtype.kind != "f":
        return float(np.mean(expected != found))
    scale = max(1.0, float(np.nanmax(np.abs(expected), initial=0.0)))
    return float(np.nanmax(np.abs(expected - found), initial=0.0)) / scale


def _front(graph: Any, arrays: Mapping[str, Array]) -> list[Any]:
    """Gives a graph the inputs that these arrays are; returns the nodes that lead to its own.

    Those are as many, in the same order, or one of all columns side by side.
    """
    from onnx import helper

    inner = list(graph.input)
    wanted = [one.type.tensor_type.elem_type for one in inner]
    nodes, fed = [], []
    del graph.input[:]
    for i, (name, array) in enumerate(arrays.items()):
        # Converters make names without blanks, so that there can be no other of these.
        given, cast = f"given {name}", f"cast {name}"
        kind, to = helper.np_dtype_to_tensor_dtype(array.dtype), wanted[min(i, len(wanted) - 1)]
        graph.input.append(helper.make_tensor_value_info(given, kind, [None, *array.shape[1:]]))
        how = ("Identity", {}) if kind == to else ("Cast", {"to": to})
        nodes.append(helper.make_node(how[0], [given], [cast], **how[1]))
        fed.append(cast)
    if len(inner) < len(fed):
        nodes.append(helper.make_node("Concat", fed, ["all columns"], axis=1))
        fed = ["all columns"]
    renamed = dict(zip((one.name for one in inner), fed, strict=True))
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return nodes


def _mend(model: Any, arrays: Mapping[str, Array]) -> None:
    """Gives a graph its inputs, mends nodes that are given floats and doubles, types its outputs."""
    import onnx

    graph = model.graph
    whole = [*_front(graph, arrays), *graph.node]
    versions = {one.domain: one.version for one in model.opset_import}
    types = {one.name: one.type.tensor_type.elem_type for one in graph.input}
    types |= {one.name: one.data_type for one in graph.initializer}
    nodes = []
    for node in whole:
        try:
            schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
        except onnx.defs.SchemaError:  # of the runtime's own
            nodes.append(node)
            continue
        nodes += [*_widened(node, schema, types), node]
        types |= _types_of_outputs(node, schema, types)
    del graph.node[:]
    graph.node.extend(nodes)
    for one in graph.output:
        if types.get(one.name) in {_FLOAT, _DOUBLE}:
            one.type.tensor_type.elem_type = types[one.name]


def _formal(given: Sequence[Any], i: int) -> str:
    """The type that a schema wants at a place; the last one stands for all that follow."""
    return str(given[min(i, len(given) - 1)].type_str) if given else ""


def _widened(node: Any, schema: Any, types: dict[str, int]) -> list[Any]:
    """Nodes that make doubles of the floats which `node` is given beside doubles."""
    from onnx import helper

    by_type: dict[str, set[int]] = {}
    for i, name in enumerate(node.input):
        by_type.setdefault(_formal(schema.inputs, i), set()).add(types.get(name, 0))
    made = []
    for i, name in enumerate(node.input):
        is_mixed = by_type[_formal(schema.inputs, i)] >= {_FLOAT, _DOUBLE}
        if is_mixed and types.get(name) == _FLOAT:
            wide = f"wide {name} {node.output[0]} {i}"
            made.append(helper.make_node("Cast", [name], [wide], to=_DOUBLE))
            types[wide] = _DOUBLE
            node.input[i] = wide
    return made


def _types_of_outputs(node: Any, schema: Any, types: Mapping[str, int]) -> dict[str, int]:
    """As far as they follow from the inputs and the schema."""
    fixed = {"tensor(float)": _FLOAT, "tensor(double)": _DOUBLE}
    bound = {_formal(schema.inputs, i): types.get(n, 0) for i, n in enumerate(node.input)}
    to = next((a.i for a in node.attribute if a.name == "to" and node.op_type == "Cast"), None)
    formal = {name: _formal(schema.outputs, i) for i, name in enumerate(node.output)}
    found = {name: to or fixed.get(kind) or bound.get(kind) for name, kind in formal.items()}
    return {name: int(kind) for name, kind in found.items() if kind}


# Converters of our own, which skl2onnx calls in place of its own for these classes.


def _own_converters() -> dict[type, Any]:
    from salver.optimization.export_booster import faces  # which writes as this module does

    ensemble: Any = importlib.import_module("sklearn.ensemble")
    tree: Any = importlib.import_module("sklearn.tree")
    impute: Any = importlib.import_module("sklearn.impute")
    found = {impute.SimpleImputer: _imputer, **dict.fromkeys(faces(), _trees)}
    for kind in ("Classifier", "Regressor"):
        for name in ("RandomForest", "ExtraTrees", "GradientBoosting", "HistGradientBoosting"):
            found[getattr(ensemble, name + kind)] = _trees
        for name in ("DecisionTree", "ExtraTree"):
            found[getattr(tree, name + kind)] = _trees
    forests = (ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier)
    return found | dict.fromkeys(forests, _forest)


def _trees(scope: Any, operator: Any, container: Any) -> None:
    """Trees, in floats: scikit-learn, too, makes floats of what it compares with thresholds.

    For doubles, skl2onnx writes thresholds that belong to other comparisons. Those of histograms
    and of LightGBM do compare doubles.
    """
    kinds: Any = importlib.import_module("skl2onnx.common.data_types")
    (given,) = operator.inputs
    is_wide = isinstance(given.type, kinds.DoubleTensorType)
    name = type(operator.raw_operator).__name__
    is_histogram = name.startswith("HistGradientBoosting")
    compares_doubles = is_wide and (is_histogram or name.startswith("LGBM"))

    def add_node(kind: str, *args: Any, **attributes: Any) -> None:
        if kind.startswith("TreeEnsemble"):
            attributes = _tree_attributes(attributes, operator.raw_operator, compares_doubles)
        container.add_node(kind, *args, **attributes)

    if is_wide and not compares_doubles:
        narrow = scope.declare_local_variable("narrow", kinds.FloatTensorType(given.type.shape))
        _add(scope, container, "Cast", [given.full_name], narrow.full_name, to=_FLOAT)
        operator = _With(operator, inputs=[narrow], input_full_names=[narrow.full_name])
    kind = "TreeEnsemble" + name.removeprefix("HistGradientBoosting")
    version = (kind, "ai.onnx.ml", 3) if is_histogram else ()  # from which on it keeps doubles
    _stock(operator)(scope, operator, _With(container, add_node=add_node), *version)


def _tree_attributes(given: Mapping[str, Any], model: Any, in_doubles: bool) -> dict[str, Any]:
    """With where missing values go, as whole numbers, for protobuf takes no truth values."""
    from onnx import numpy_helper

    key, found = "nodes_missing_value_tracks_true", dict(given)
    models = list(np.ravel(getattr(model, "estimators_", [model])))
    if all(hasattr(one, "tree_") for one in models):
        found[key] = [value for one in models for value in one.tree_.missing_go_to_left]
    found[key] = [int(value) for value in found[key]]
    if in_doubles:
        found["op_version"] = 3
        for name in _OF_FLOATS & set(found):
            values = np.asarray(found.pop(name), dtype=np.float64)
            found[f"{name}_as_tensor"] = numpy_helper.from_array(values, name)
    return found


def _forest(scope: Any, operator: Any, container: Any) -> None:
    """Trees that vote: their sum is divided in doubles, so that a tie stays one.

    skl2onnx divides first, and of two classes with as many votes may take the other one.
    """
    shared: Any = importlib.import_module("skl2onnx.common.tree_ensemble")
    labels: Any = importlib.import_module("skl2onnx.common.utils_classifier")
    forest = operator.raw_operator
    if forest.n_outputs_ != 1:
        _trees(scope, operator, container)
        return
    attributes = shared.get_default_tree_regressor_attribute_pairs()
    for i, one in enumerate(forest.estimators_):
        shared.add_tree_to_attribute_pairs(
            attributes, False, one.tree_, i, 1.0, 0, True, True, dtype=np.float32
        )
    attributes = _tree_attributes(attributes, forest, in_doubles=False)
    attributes |= {"n_targets": forest.n_classes_, "op_domain": "ai.onnx.ml", "op_version": 1}
    names = ("narrow", "votes", "wide", "count", "best")
    narrow, votes, wide, count, best = map(scope.get_unique_variable_name, names)
    label, probabilities = (output.full_name for output in operator.outputs)
    _add(scope, container, "Cast", operator.input_full_names, narrow, to=_FLOAT)
    _add(scope, container, "TreeEnsembleRegressor", [narrow], votes, **attributes)
    _add(scope, container, "Cast", [votes], wide, to=_DOUBLE)
    container.add_initializer(count, _DOUBLE, [1], [float(len(forest.estimators_))])
    _add(scope, container, "Div", [wide, count], probabilities)
    _add(scope, container, "ArgMax", [probabilities], best, axis=1)
    labels._finalize_converter_classes(scope, best, label, container, forest.classes_, _INT64)


def _imputer(scope: Any, operator: Any, container: Any) -> None:
    """An imputer of doubles, for which ONNX Runtime has none."""
    kinds: Any = importlib.import_module("skl2onnx.common.data_types")
    imputer, (given, *others) = operator.raw_operator, operator.inputs
    values = np.asarray(imputer.statistics_)
    is_plain = (
        isinstance(given.type, kinds.DoubleTensorType)
        and not (others or imputer.add_indicator)
        and isinstance(imputer.missing_values, float)
        and np.isnan(imputer.missing_values)
        and values.dtype.kind == "f"
        and np.isfinite(values).all()
    )
    if not is_plain:
        _stock(operator)(scope, operator, container)
        return
    put, missing = map(scope.get_unique_variable_name, ("put", "missing"))
    container.add_initializer(put, _DOUBLE, [1, len(values)], values.tolist())
    _add(scope, container, "IsNaN", [given.full_name], missing)
    output = operator.outputs[0].full_name
    _add(scope, container, "Where", [missing, put, given.full_name], output)


def _stock(operator: Any) -> Any:
    return importlib.import_module("skl2onnx.common._registration").get_converter(operator.type)


def _add(
    scope: Any, container: Any, kind: str, inputs: list[str], output: str, **attributes: Any
) -> None:
    name = scope.get_unique_operator_name(kind)
    container.add_node(kind, inputs, [output], name=name, **attributes)


class _With:
    """An object with other attributes than its own."""

    def __init__(self, value: Any, **others: Any) -> None:
        self.__dict__.update(others, _value=value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)
