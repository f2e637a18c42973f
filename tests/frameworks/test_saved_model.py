"""SavedModels: operators that could reach beyond the graph are found wherever they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from frameworks.in_process import described_of
from frameworks.tensorflow_models import FLOAT, TEXT, Sum, with_vocabulary
from salver.errors import CheckpointError, SalverError
from salver.models.description import Artifact
from salver.models.frameworks.tensorflow import signature_of
from salver.paths import walk


class Asks(tf.Module):
    """Writes a file when it is asked."""

    def __init__(self, canary: str) -> None:
        super().__init__()
        self.canary = canary

    @tf.function(input_signature=[FLOAT])
    def __call__(self, x: Any) -> Any:
        tf.io.write_file(self.canary, "")
        return 2 * x


class Starts(tf.Module):
    """Fills a table when it is loaded, and writes a file on that occasion."""

    def __init__(self, canary: str) -> None:
        super().__init__()

        class Writes(tf.lookup.KeyValueTensorInitializer):
            def initialize(self, table: Any) -> Any:
                with tf.control_dependencies([tf.io.write_file(canary, "")]):
                    return super().initialize(table)

        self.table = tf.lookup.StaticHashTable(Writes(["a"], [1.0]), -1.0)

    @tf.function(input_signature=[TEXT])
    def __call__(self, s: Any) -> Any:
        return self.table.lookup(s)


@pytest.mark.parametrize("module", [Asks, Starts])
def test_a_saved_model_creates_no_canary(tmp_path: Path, module: Any) -> None:
    """Though it would, in TensorFlow, when it is loaded or asked."""
    canary, where = tmp_path / "canary", tmp_path / "saved_model"
    tf.saved_model.save(module(str(canary)), where)
    canary.unlink(missing_ok=True)
    with pytest.raises(SalverError, match="WriteFile"):
        described_of(where)
    names = tuple(name for name, _ in walk(where))
    with pytest.raises(CheckpointError, match="no signature"):
        signature_of(Artifact(where, names, {}))
    assert not canary.exists()
    served = tf.saved_model.load(str(where)).signatures["serving_default"]
    if module is Asks:
        served(x=tf.ones((1, 2)))
    assert canary.exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: tf.py_function(lambda y: y, [x], tf.float32), "EagerPyFunc"),
        (lambda x: tf.numpy_function(lambda y: y, [x], tf.float32), "PyFunc"),
        (lambda x: x + tf.strings.to_number(tf.io.read_file("/etc/hostname")), "ReadFile"),
        (lambda x: x + tf.cast(tf.size(tf.io.matching_files("/*")), tf.float32), "MatchingFiles"),
        (
            lambda x: tf.while_loop(
                lambda y: tf.size(tf.io.read_file("/etc/hostname")) > 1, lambda y: (y + 1,), [x]
            )[0],
            "ReadFile",
        ),
        (lambda x: (tf.print("a", output_stream="file:///tmp/b"), x)[1], "PrintV2"),
        (lambda x: x + tf.raw_ops.Restore(file_pattern="a", tensor_name="b", dt=tf.float32), "Res"),
    ],
    ids=["py", "numpy", "read", "match", "loop", "print", "restore"],
)
def test_operators_that_reach_beyond_the_graph(tmp_path: Path, call: Any, said: str) -> None:
    """They are found in inner functions too."""

    class Reaches(tf.Module):
        @tf.function(input_signature=[FLOAT])
        def __call__(self, x: Any) -> Any:
            return call(x)

    tf.saved_model.save(Reaches(), tmp_path / "model")
    with pytest.raises(SalverError, match=said):
        described_of(tmp_path / "model")


def edited(folder: Path, edit: Callable[[Any], None], appended: bytes = b"") -> Path:
    """A SavedModel with a change in its message, or with bytes after its only meta graph."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    edit(saved.meta_graphs[0])
    meta = saved.meta_graphs[0].SerializeToString() + appended
    del saved.meta_graphs[:]
    size, prefix = len(meta), b"\x12"
    while size > 127:
        prefix, size = prefix + bytes([size & 127 | 128]), size >> 7
    path.write_bytes(saved.SerializeToString() + prefix + bytes([size]) + meta)
    return folder


def test_a_vocabulary_that_is_no_asset(tmp_path: Path) -> None:
    """A path out of the assets is refused, and so is one that the graph brings along."""
    where = with_vocabulary(tmp_path)

    def leads_out(meta: Any) -> None:
        meta.asset_file_def[0].filename = "../../words"

    def is_constant(meta: Any) -> None:
        nodes = meta.object_graph_def.nodes
        constant = next(i for i, node in enumerate(nodes) if node.HasField("constant"))
        for name, function in meta.object_graph_def.concrete_functions.items():
            if "initializer" in name:
                function.bound_inputs[0] = constant

    original = (where / "saved_model.pb").read_bytes()
    with pytest.raises(SalverError, match=r"\.\."):
        described_of(edited(where, leads_out))
    (where / "saved_model.pb").write_bytes(original)
    with pytest.raises(SalverError, match="InitializeTableFromTextFileV2"):
        described_of(edited(where, is_constant))


def saver_of(meta: Any) -> Any:
    return next(f for f in meta.graph_def.library.function if "save" in f.signature.name)


def calls_the_saver(meta: Any) -> None:
    for function in meta.graph_def.library.function:
        for node in function.node_def:
            if node.op == "StatefulPartitionedCall":
                node.attr["f"].func.name = saver_of(meta).signature.name


def lets_the_saver_take_a_place(meta: Any) -> None:
    saver_of(meta).attr["api_implements"].s = b"one"


def makes_the_saver_a_function_of_an_object(meta: Any) -> None:
    meta.object_graph_def.concrete_functions[saver_of(meta).signature.name].SetInParent()


def names_a_function_as_an_operator(meta: Any) -> None:
    meta.graph_def.library.function.add().signature.name = "SaveV2"
    for function in meta.graph_def.library.function:
        for node in function.node_def:
            node.op = "SaveV2" if node.op == "MatMul" else node.op


@pytest.mark.parametrize(
    "edit",
    [
        calls_the_saver,
        lets_the_saver_take_a_place,
        makes_the_saver_a_function_of_an_object,
        names_a_function_as_an_operator,
    ],
)
def test_what_only_savers_may_do(tmp_path: Path, edit: Any) -> None:
    """Their functions write files, so nobody may call them who is run."""
    tf.saved_model.save(Sum(), tmp_path / "model")
    assert () == described_of(tmp_path / "model").code
    with pytest.raises(SalverError, match="SaveV2"):
        described_of(edited(tmp_path / "model", edit))


def test_a_field_that_is_there_twice(tmp_path: Path) -> None:
    """TensorFlow puts both together: so does the one who looks."""
    tf.saved_model.save(Sum(), tmp_path / "model")
    graph = graph_pb2.GraphDef()
    graph.node.add(name="later", op="ReadFile").attr["T"].type = types_pb2.DT_STRING
    more = graph.SerializeToString()
    assert len(more) < 128
    where = edited(tmp_path / "model", lambda meta: None, b"\x12" + bytes([len(more)]) + more)
    meta = saved_model_pb2.SavedModel.FromString((where / "saved_model.pb").read_bytes())
    assert "ReadFile" in {node.op for node in meta.meta_graphs[0].graph_def.node}
    with pytest.raises(SalverError, match="ReadFile"):
        described_of(where)


def test_a_graph_of_tensorflow_1(tmp_path: Path) -> None:
    """Without its object graph a model is loaded in the old way, which runs nodes of the graph."""
    tf.saved_model.save(Sum(), tmp_path / "model")
    with pytest.raises(SalverError, match="TensorFlow 1"):
        described_of(edited(tmp_path / "model", lambda meta: meta.ClearField("object_graph_def")))
