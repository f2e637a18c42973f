"""Sessions of ONNX Runtime, listened to and exchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salver.errors import CheckpointError
from salver.models.variants.parts import part_at

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

OPTIONS = ort.RunOptions()
X = np.arange(6, dtype=np.float32).reshape(3, 2)


class Holder:
    """As users hold a session."""

    def __init__(self, path: Path) -> None:
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, x: Any) -> Any:
        return self.session.run(["sum", "double"], {"x": x})


@pytest.fixture
def holder(tmp_path: Path) -> Holder:
    """A graph with two outputs."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("ReduceSum", ["x"], ["sum"]),
    ]
    shapes = {"x": ["n", 2], "double": ["n", 2], "sum": [1, 1]}
    x, double, sum_ = (helper.make_tensor_value_info(n, kind, s) for n, s in shapes.items())
    graph = helper.make_graph(nodes, "g", [x], [double, sum_])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "m.onnx")
    return Holder(tmp_path / "m.onnx")


def test_a_session_is_listened_to(holder: Holder) -> None:
    """It answers as ever, and is in its place again afterwards."""
    session, part = holder.session, part_at(holder, "onnx", ("session",))
    with part.listening() as calls:
        total, double = holder(X)
    assert (15.0, (2 * X).tolist()) == (total.item(), double.tolist())
    assert X.tolist() == calls[0].arrays["x"].tolist()
    assert session is holder.session


def test_another_answers_in_its_place(holder: Holder) -> None:
    """By the names of the outputs; and all else is still the session's to say."""
    part = part_at(holder, "onnx", ("session",))
    part.exchange(lambda arrays: [arrays[0] + 1, np.zeros((1, 1))], [("x", "float32")], {})
    total, other = holder(X)
    assert (0.0, (X + 1).tolist()) == (total.item(), other.tolist())
    assert ["x"] == [one.name for one in holder.session.get_inputs()]


def test_a_graph_with_other_inputs_does_not_fit(holder: Holder) -> None:
    """It was made of another session."""
    part = part_at(holder, "onnx", ("session",))
    with pytest.raises(CheckpointError, match="other inputs"):
        part.exchange(list, [("y", "float32")], {})


def test_calls_of_another_form_are_the_original_s(holder: Holder) -> None:
    """Other dtypes, other options, outputs of no name it has, and what the graph fails at."""

    def fails(arrays: Any) -> Any:
        raise RuntimeError("a size that no call had before")

    session, part = holder.session, part_at(holder, "onnx", ("session",))
    part.exchange(fails, [("x", "float32")], {})
    assert 15.0 == holder(X)[0].item()
    part.exchange(lambda arrays: [arrays[0] * 0, np.zeros((1, 1))], [("x", "float32")], {})
    asked = holder.session.run
    assert 0.0 == asked(None, {"x": X})[0].sum()
    assert 30.0 == asked(output_names=["double"], input_feed={"x": X}, run_options=OPTIONS)[0].sum()
    for feeds in ({"x": X.astype(np.float64)}, {}):
        with pytest.raises(Exception, match="x"):
            asked(None, feeds)
    with pytest.raises(Exception, match="triple"):
        asked(["triple"], {"x": X})
    assert session is not holder.session


def test_what_was_heard_stays_as_it_was(holder: Holder) -> None:
    """Though a class writes its next rows into the same memory, or leaves out an input."""
    rows = X.copy()
    with part_at(holder, "onnx", ("session",)).listening() as calls:
        holder(rows)
        rows[:] = 0
        with pytest.raises(Exception, match="x"):
            holder.session.run(None, {})
    assert [X.tolist()] == [call.arrays["x"].tolist() for call in calls]
