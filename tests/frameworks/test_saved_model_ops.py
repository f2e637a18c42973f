"""The table of operators, against the ones that the installed TensorFlow has."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from salver.models.frameworks.saved_model_ops import COMPUTING, LOADING_TEXT, OF_SAVERS


def test_every_operator_of_the_table_is_one() -> None:
    """And none that reads, writes, calls or sends is in it."""
    known = {name for name in dir(tf.raw_ops) if op_def_registry.get(name) is not None}
    assert known >= COMPUTING
    reaching = ("File", "Save", "Restore", "PyFunc", "Dataset", "Iterator", "Reader", "Summary")
    reaching += ("Send", "Recv", "Remote", "Print", "Debug", "Proto", "Checkpoint", "Session")
    assert not {op for op in known & COMPUTING if any(word in op for word in reaching)}
    assert not COMPUTING & (OF_SAVERS | LOADING_TEXT | {"ImmutableConst", "Abort", "Rpc"})
    for op in COMPUTING:
        arguments = [a.name for a in op_def_registry.get(op).input_arg]
        assert not {"filename", "filenames", "file_pattern", "prefix"} & set(arguments), op
