"""Graphs of PyTorch's networks, as they are called on real rows.

It does not know what a network is for: tensors go in and come out, in the order of their names.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from salver.models.variants.parts import Call
from salver.models.variants.torch_part import TorchPart, tensors_of

OPSET = 17


class _Flat(torch.nn.Module):
    """A network whose inputs and outputs are tensors in a row.

    Args:
        part: The network.
        example: Tensors and constants by name, as in a call.
    """

    def __init__(self, part: TorchPart, call: Call) -> None:
        super().__init__()
        self.module = part.value
        self._forward = part.forward
        self._leaves, self._spec = call.arranged

    def forward(self, *tensors: torch.Tensor) -> Any:
        """All tensors that the network gives."""
        given = iter(tensors)
        leaves = [next(given) if isinstance(x, torch.Tensor) else x for x in self._leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return tuple(tensors_of(self._forward(*args, **kwargs)))


def to_onnx(part: TorchPart, calls: Sequence[Call], path: Path) -> None:
    """Writes the network as an ONNX graph.

    Args:
        part: The network.
        calls: With the shapes that it is given; sizes that differ among them stay open.
        path: Of the file; large weights go into files beside it.
    """
    flat, example = _prepared(part, calls)
    names = list(calls[0].arrays)
    axes = {name: {i: f"{name}_{i}" for i in open_} for name, open_ in open_sizes(calls).items()}
    with torch.inference_mode():
        count = len(flat(*example))
    outputs = [f"output_{i}" for i in range(count)]
    axes |= {name: {0: "rows"} for name in outputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it traced, which the gate judges
        torch.onnx.export(
            flat,
            example,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[f"input_{i}" for i in range(len(names))],
            output_names=outputs,
            dynamic_axes={_renamed(n, names): sizes for n, sizes in axes.items()},
        )


def to_openvino(part: TorchPart, calls: Sequence[Call]) -> Any:
    """The network as a model of OpenVINO; arguments as for `to_onnx`."""
    import openvino as ov

    flat, example = _prepared(part, calls)
    sizes = open_sizes(calls)
    shapes = [
        ov.PartialShape([-1 if i in sizes[n] else s for i, s in enumerate(array.shape)])
        for n, array in calls[0].arrays.items()
    ]
    types = [ov.Type(array.dtype) for array in calls[0].arrays.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ov.convert_model(
            flat, example_input=example, input=list(zip(shapes, types, strict=True))
        )


def open_sizes(calls: Sequence[Call]) -> dict[str, set[int]]:
    """Dimensions of each input whose size is not always the same; the rows among them."""
    found: dict[str, set[int]] = {}
    for name, first in calls[0].arrays.items():
        shapes = [call.arrays[name].shape for call in calls]
        varying = {i for i in range(first.ndim) if len({shape[i] for shape in shapes}) > 1}
        found[name] = varying | {0} if first.ndim else varying
    return found


def _prepared(part: TorchPart, calls: Sequence[Call]) -> tuple[_Flat, tuple[torch.Tensor, ...]]:
    call = max(calls, key=lambda c: min(_sizes(c.arrays.values())))  # a size of 1 may be special
    example = tuple(torch.from_numpy(np.array(array)) for array in call.arrays.values())
    return _Flat(part, call).eval(), example


def _sizes(arrays: Any) -> list[int]:
    return [size for array in arrays for size in np.shape(array)] or [0]


def _renamed(name: str, inputs: Sequence[str]) -> str:
    return f"input_{inputs.index(name)}" if name in inputs else name
