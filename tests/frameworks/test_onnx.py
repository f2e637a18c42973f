"""ONNX: what ONNX Runtime says itself is what a graph by URI answers, online and offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from mlflow.models import infer_signature
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from frameworks.asking import Asker
from frameworks.in_process import answers, described_of, loaded
from salver.errors import CheckpointError

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(40, 3)).astype(np.float32)
NAMES = np.array(["low", "middle", "high"])[np.digitize(INPUTS[:, 0], [-0.5, 0.5])]
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def graph(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **more: Any) -> Any:
    """A model of nodes; inputs and outputs by name as (type, shape)."""

    def values(given: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, *kind) for name, kind in given.items()]

    made = helper.make_graph(nodes, "g", values(inputs), values(outputs), **more)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def doubled(shape: list[Any], kind: int = FLOAT) -> Any:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return graph([node], {"x": (kind, shape)}, {"y": (kind, shape)})


def converted(model: Any, zipmap: bool) -> Any:
    return to_onnx(model, INPUTS[:1], options={id(model): {"zipmap": zipmap}}, target_opset=17)


def test_a_classifier_with_zipmap_by_alias(asker: Asker) -> None:
    """Its dicts become probabilities with class names, as those of MLflow's flavour."""
    model = LogisticRegression().fit(INPUTS, NAMES)
    with mlflow.start_run():
        mlflow.onnx.log_model(
            converted(model, zipmap=True), name="model", pip_requirements=[],
            signature=infer_signature(INPUTS), registered_model_name="level",
        )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("level", "champion", "1")
    expected = {"prediction": model.predict(INPUTS), "probabilities": model.predict_proba(INPUTS)}
    rows = [{"input": row} for row in INPUTS.tolist()]
    asker.agree("models:/level@champion", rows, expected, tolerance=1e-4)


def test_a_bare_table_of_separate_columns(asker: Asker, tmp_path: Path) -> None:
    """Each column is a scalar of its own type: whole numbers, fractions and texts."""
    table = pd.DataFrame(
        {
            "age": RNG.integers(18, 90, 40),
            "size": INPUTS[:, 1],
            "city": RNG.choice(["Ulm", "Köln"], 40),
        }
    )
    by_column = make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough")
    model = make_pipeline(by_column, LogisticRegression(max_iter=500)).fit(table, NAMES)
    types = {"age": Int64TensorType, "size": FloatTensorType, "city": StringTensorType}
    where = tmp_path / "table.onnx"
    made = to_onnx(
        model,
        initial_types=[(name, kind([None, 1])) for name, kind in types.items()],
        options={"zipmap": False},
        target_opset=17,
    )
    where.write_bytes(made.SerializeToString())
    expected = {"prediction": model.predict(table), "probabilities": model.predict_proba(table)}
    asker.agree(str(where), table.to_dict("records"), expected, tolerance=1e-4)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("labels", [NAMES, np.digitize(INPUTS[:, 0], [0]) * 5 - 2])
def test_names_of_classes(tmp_path: Path, zipmap: bool, labels: Any) -> None:
    """Texts and numbers, from ZipMap and from the operator itself."""
    model = RandomForestClassifier(5, random_state=0).fit(INPUTS, labels)
    where = tmp_path / "model.onnx"
    where.write_bytes(converted(model, zipmap).SerializeToString())
    assert model.classes_.tolist() == loaded(where).classes_
    found = answers(where, {"X": list(INPUTS)})
    assert model.predict(INPUTS).tolist() == found["prediction"].tolist()
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(INPUTS), 1e-4, 1e-5)


def test_probabilities_without_names(tmp_path: Path) -> None:
    """Where no operator names the classes, the labels still come out."""
    model = KNeighborsClassifier().fit(INPUTS, NAMES)
    where = tmp_path / "model.onnx"
    where.write_bytes(converted(model, zipmap=False).SerializeToString())
    assert not hasattr(loaded(where), "classes_")
    found = answers(where, {"X": list(INPUTS)})
    assert model.predict(INPUTS).tolist() == found["prediction"].tolist()
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(INPUTS), 1e-4, 1e-5)


def test_a_table_for_a_graph_of_one_matrix(tmp_path: Path) -> None:
    """Columns of a DataFrame are put side by side, in the signature's order."""
    table = pd.DataFrame(INPUTS.astype(float), columns=["a", "b", "c"])
    model = LinearRegression().fit(INPUTS, INPUTS[:, 0] * 3)
    mlflow.onnx.save_model(
        to_onnx(model, INPUTS[:1], target_opset=17),
        tmp_path / "m",
        pip_requirements=[],
        signature=infer_signature(table),
    )
    found = answers(tmp_path / "m", table)
    np.testing.assert_allclose(found["variable"], model.predict(INPUTS), 1e-4, 1e-5)


@pytest.mark.parametrize("n", [1, 3, 4, 9])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_any_number_of_rows(tmp_path: Path, batch: int | None, n: int) -> None:
    """A graph of a fixed number is asked for that many, and what fills it up leaves no trace."""
    where = tmp_path / "model.onnx"
    onnx.save(doubled([batch, 3]), where)
    found = answers(where, {"x": list(INPUTS[:n])})
    np.testing.assert_array_equal(found["y"], INPUTS[:n] * 2)


def test_zipmap_of_a_fixed_number_of_rows(tmp_path: Path) -> None:
    """Its dicts are put together like arrays."""
    model = LogisticRegression().fit(INPUTS, NAMES)
    made = to_onnx(
        model, initial_types=[("X", FloatTensorType([4, 3]))], options={"zipmap": True},
        target_opset=17,
    )  # fmt: skip
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    found = answers(tmp_path / "model.onnx", {"X": list(INPUTS[:6])})
    assert model.predict(INPUTS[:6]).tolist() == found["prediction"].tolist()
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(INPUTS[:6]), 1e-4, 1e-5)


def test_images_and_several_outputs(tmp_path: Path) -> None:
    """Tensors keep their shape, each output its name; a column of one becomes a number."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=FLOAT),
        helper.make_node("ReduceMean", ["f"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["mean"], ["top"], axes=[1], keepdims=1),
    ]
    image = (TensorProto.UINT8, ["n", 3, "h", "w"])
    outputs = {"mean": (FLOAT, ["n", 3]), "top": (FLOAT, ["n", 1])}
    onnx.save(graph(nodes, {"image": image}, outputs), tmp_path / "model.onnx")
    (column,) = described_of(tmp_path / "model.onnx").signature.columns
    assert ("image", "uint8", (3, -1, -1)) == (column.name, column.dtype, column.shape)
    images = RNG.integers(0, 255, (5, 3, 4, 6)).astype(np.uint8)
    found = answers(tmp_path / "model.onnx", {"image": list(images)})
    np.testing.assert_allclose(found["mean"], images.mean((2, 3)), 1e-4)
    np.testing.assert_allclose(found["top"], images.mean((2, 3)).max(1), 1e-4)


@pytest.mark.parametrize("through_mlflow", [True, False])
def test_weights_in_files_of_their_own(tmp_path: Path, through_mlflow: bool) -> None:
    """As MLflow keeps large ones, and beside the graph in a folder."""
    weights = RNG.normal(size=(3, 500)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    made = graph(
        [node],
        {"x": (FLOAT, ["n", 3])},
        {"y": (FLOAT, ["n", 500])},
        initializer=[numpy_helper.from_array(weights, "w")],
    )
    where = tmp_path / "m"
    if through_mlflow:
        mlflow.onnx.save_model(made, where, pip_requirements=[])
    else:
        where.mkdir()
        onnx.save(made, where / "net.onnx", save_as_external_data=True, location="net.weights")
        assert (where / "net.weights").stat().st_size >= weights.nbytes
    found = answers(where, {"x": list(INPUTS)})
    np.testing.assert_allclose(found["y"], INPUTS @ weights, 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("made", "example", "why"),
    [
        (doubled(["n", 3]), INPUTS[:, :2], r"takes .*\[-1, 3\]"),
        (doubled(["n", 3]), pd.DataFrame(INPUTS[:, :2].astype(float), columns=["a", "b"]), "of 2"),
        (doubled(["n", 1], INT64), pd.DataFrame({"x": [0.5]}), "'double'.*'int64'"),
        (doubled(["n", 1]), pd.DataFrame({"x": ["a"]}), "'string'.*'float32'"),
        (doubled(["n", 1], INT64), pd.DataFrame({"x": [None, 1]}, dtype="Int64"), "be missing"),
    ],
)
def test_a_signature_that_is_not_the_graphs_is_refused(
    tmp_path: Path, made: Any, example: Any, why: str
) -> None:
    """When it is loaded, with what the graph takes."""
    mlflow.onnx.save_model(
        made, tmp_path / "m", pip_requirements=[], signature=infer_signature(example)
    )
    with pytest.raises(CheckpointError, match=why):
        loaded(tmp_path / "m")


def test_a_signature_of_other_names_for_several_inputs_is_refused(tmp_path: Path) -> None:
    """Which column is which input cannot be known."""
    node = helper.make_node("Add", ["a", "b"], ["y"])
    made = graph([node], {"a": (FLOAT, ["n"]), "b": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])})
    example = pd.DataFrame({"a": [1.0], "c": [2.0]})
    mlflow.onnx.save_model(
        made, tmp_path / "m", pip_requirements=[], signature=infer_signature(example)
    )
    with pytest.raises(CheckpointError, match=r"\['a', 'c'\], and the graph takes \['a', 'b'\]"):
        loaded(tmp_path / "m")


def test_texts(tmp_path: Path) -> None:
    """A graph over one text for each row."""
    node = helper.make_node("Identity", ["x"], ["y"])
    made = graph([node], {"x": (STRING, ["n"])}, {"y": (STRING, ["n"])})
    onnx.save(made, tmp_path / "model.onnx")
    assert ["a", "ö"] == answers(tmp_path / "model.onnx", {"x": ["a", "ö"]})["y"].tolist()


@pytest.mark.parametrize(
    "made",
    [doubled([]), doubled(["n"], TensorProto.BFLOAT16), doubled(["n"], TensorProto.COMPLEX64)],
)
def test_inputs_that_rows_cannot_hold_are_refused(tmp_path: Path, made: Any) -> None:
    """A number for the whole batch, and types that JSON cannot be made to."""
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=r"input 'x' is a|no graph that ONNX Runtime loads"):
        described_of(tmp_path / "model.onnx")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\x08\x08\x3a\xff"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """By what is in them."""
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.onnx is no graph that ONNX Runtime loads"):
        described_of(tmp_path / "model.onnx")


def test_the_library_answers_the_same(tmp_path: Path) -> None:
    """Bit for bit, for a graph is asked as its users ask it."""
    made = converted(RandomForestClassifier(5, random_state=0).fit(INPUTS, NAMES), zipmap=False)
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    expected = session.run(None, {"X": INPUTS})[1]
    found = answers(tmp_path / "model.onnx", {"X": list(INPUTS)})
    np.testing.assert_array_equal(found["probabilities"], expected)
