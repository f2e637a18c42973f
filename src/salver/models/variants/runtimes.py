"""Runtimes that a graph can be given to: arrays in, arrays out.

They know graphs and threads, not what a graph stands for. Each library is imported when its first
graph is opened.
"""

from __future__ import annotations

import importlib.util
import platform
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from salver.errors import CheckpointError, MissingExtra
from salver.settings import math_threads

EXTRA = "optimize"
# Instruction sets of x86 and ARM that change what int8 and bf16 give, by their names on Linux.
INSTRUCTIONS = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8",
    "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
_CPUINFO = Path("/proc/cpuinfo")
_PRECISIONS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}  # of what is not quantised, too

Array = np.ndarray[Any, Any]


class Runtime(Protocol):
    """A graph, ready.

    Attributes:
        precision: What it computes in: "fp32", "bf16", "int8", or "own" as its graph says.
    """

    precision: str

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for inputs in the order of the graph; may be called from any thread."""
        ...


def open_runtime(runtime: str, path: Path, precision: str) -> Runtime:
    """Opens a graph.

    Args:
        runtime: "onnxruntime" or "openvino".
        path: The graph.
        precision: What it must compute in.

    Raises:
        CheckpointError: If it cannot be opened, or the runtime would compute in another precision.
        MissingExtra: If the runtime is not installed.
    """
    kinds: dict[str, Callable[[Path, str], Runtime]]
    kinds = {"onnxruntime": _OnnxRuntime, "openvino": _OpenVino}
    if runtime not in kinds:
        raise CheckpointError(f"This Salver knows no runtime {runtime!r}.")
    if importlib.util.find_spec(runtime) is None:
        raise MissingExtra(runtime, "An optimised variant", EXTRA)
    try:
        return kinds[runtime](path, precision)
    except CheckpointError:
        raise
    except Exception as error:  # of libraries whose errors share no base
        raise CheckpointError(f"{path.name} is no graph that {runtime} loads: {error}") from error


@cache
def instructions() -> tuple[str, ...]:
    """Instruction sets of this processor that change what quantised graphs give."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # another system
        return (platform.machine(),)
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return tuple(name for name in INSTRUCTIONS if name in flags.split())


class _OnnxRuntime:
    def __init__(self, path: Path, precision: str) -> None:
        import onnxruntime as ort

        if precision == "bf16":
            raise CheckpointError("ONNX Runtime computes in fp32 or int8 on a processor.")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = math_threads() or 0
        options.inter_op_num_threads = 1
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [given.name for given in session.get_inputs()]
        self._session = session
        self.precision = precision

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        found: list[Array] = self._session.run(None, dict(zip(self._names, arrays, strict=True)))
        return found


class _OpenVino:
    def __init__(self, path: Path, precision: str) -> None:
        import openvino as ov

        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # Without this hint it chooses bf16 by itself where the processor has it.
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            # Pinned, the replicas of several processes share the same core.
            "ENABLE_CPU_PINNING": False,
        }
        threads = math_threads()
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
        core = ov.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", properties)
        effective = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if effective != _PRECISIONS[precision]:
            raise CheckpointError(
                f"OpenVINO would compute in {effective} on this processor, not in {precision}."
            )
        self._request = compiled.create_infer_request()
        self._outputs = compiled.outputs
        self._lock = threading.Lock()  # a request holds one question at a time
        self.precision = precision

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        with self._lock:
            found = self._request.infer(dict(enumerate(arrays)), share_inputs=True)
            # The memory of the results is the request's, which writes into it again.
            return [np.array(found[output]) for output in self._outputs]
