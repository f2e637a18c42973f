"""Runtimes, on a graph made here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from salver.errors import CheckpointError, MissingExtra
from salver.models.variants import runtimes
from salver.models.variants.runtimes import instructions, open_runtime

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """a - b."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    a, b, c = (helper.make_tensor_value_info(n, kind, ["n", 2]) for n in "abc")
    made = helper.make_graph([helper.make_node("Sub", ["a", "b"], ["c"])], "g", [a, b], [c])
    opset = helper.make_opsetid("", 17)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=8), path)
    return path


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_arrays_go_in_by_their_order(graph: Path, name: str) -> None:
    """And come out as arrays of their own, which a later answer does not change."""
    runtime = open_runtime(name, graph, "fp32")
    (first,) = runtime([np.full((3, 2), 5, np.float32), np.full((3, 2), 2, np.float32)])
    (second,) = runtime([np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)])
    assert np.full((3, 2), 3.0).tolist() == first.tolist()
    assert np.full((3, 2), -1.0).tolist() == second.tolist()
    assert "fp32" == runtime.precision


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_is_no_graph_is_an_error(tmp_path: Path, name: str) -> None:
    """That names the file."""
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"bad\.onnx is no graph"):
        open_runtime(name, tmp_path / "bad.onnx", "fp32")


def test_another_precision_than_the_one_wanted_is_refused(graph: Path) -> None:
    """A runtime may choose one by itself, and answers would be others."""
    with pytest.raises(CheckpointError, match="ONNX Runtime computes in fp32 or int8"):
        open_runtime("onnxruntime", graph, "bf16")
    if not {"avx512_bf16", "amx_bf16", "bf16"} & set(instructions()):
        with pytest.raises(CheckpointError, match="not in bf16"):
            open_runtime("openvino", graph, "bf16")


def test_a_runtime_that_is_not_installed_is_named(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'salver\[optimize\]'"):
        open_runtime("openvino", graph, "fp32")
    with pytest.raises(CheckpointError, match="no runtime 'tensorrt'"):
        open_runtime("tensorrt", graph, "fp32")


def test_instruction_sets_are_read_from_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that change what a quantised graph gives."""
    listed = tmp_path / "cpuinfo"
    listed.write_text("model name\t: x\nflags\t\t: fpu avx2 avx512_bf16 sse\n")
    monkeypatch.setattr(runtimes, "_CPUINFO", listed)
    instructions.cache_clear()
    try:
        assert ("avx2", "avx512_bf16") == instructions()
        monkeypatch.setattr(runtimes, "_CPUINFO", tmp_path / "none")
        instructions.cache_clear()
        assert 1 == len(instructions())
    finally:
        instructions.cache_clear()
