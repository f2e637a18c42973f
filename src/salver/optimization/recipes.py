"""The candidates that are tried: what each is made with, and for which parts of models.

A table only; how they are made is in `salver.optimization.graphs`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from salver.models.variants.runtimes import instructions

OWN = "own:"  # before the name of a graph that the user gives


@dataclass(frozen=True, slots=True)
class Recipe:
    """One candidate.

    Attributes:
        name: Of the runtime and what it computes in.
        runtime: See `salver.models.variants.runtimes`.
        precision: "fp32", "bf16" or "int8".
        how: For int8: "dynamic" finds ranges while it answers, "static" from rows beforehand.
        kinds: Of the parts that it is for; see `salver.models.variants.parts`.
        libraries: What must be importable.
        instructions: One of these the processor must have; empty if any will do.
    """

    name: str
    runtime: str
    precision: str
    how: str
    kinds: tuple[str, ...]
    libraries: tuple[str, ...]
    instructions: tuple[str, ...] = ()

    def missing(self) -> str:
        """Why it cannot be tried here; empty if it can."""
        absent = [name for name in self.libraries if importlib.util.find_spec(name) is None]
        if absent:
            return f"{', '.join(absent)} not installed: pip install 'salver[optimize]'"
        if self.instructions and not set(self.instructions) & set(instructions()):
            return f"this processor has none of {', '.join(self.instructions)}"
        return ""


_ONNX, _OPENVINO = ("onnx", "onnxruntime"), ("onnx", "openvino")
_NETWORKS = ("torch", "onnx")
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")

RECIPES = (
    Recipe("onnxruntime-fp32", "onnxruntime", "fp32", "", ("torch", "sklearn", "booster"), _ONNX),
    Recipe("openvino-fp32", "openvino", "fp32", "", _NETWORKS, _OPENVINO),
    Recipe("openvino-bf16", "openvino", "bf16", "", _NETWORKS, _OPENVINO, _BF16),
    Recipe("onnxruntime-int8-dynamic", "onnxruntime", "int8", "dynamic", _NETWORKS, _ONNX),
    Recipe("onnxruntime-int8-static", "onnxruntime", "int8", "static", _NETWORKS, _ONNX),
    Recipe(
        "openvino-int8", "openvino", "int8", "static", _NETWORKS, (*_OPENVINO, "nncf"),
    ),
)  # fmt: skip


def recipes_for(kind: str) -> list[Recipe]:
    """Those for parts of a kind, in the order in which they are tried."""
    return [recipe for recipe in RECIPES if kind in recipe.kinds]
