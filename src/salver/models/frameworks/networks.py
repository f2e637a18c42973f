"""Asks networks of PyTorch: typed columns in, columns out.

It does not know how a network was loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salver.errors import CheckpointError
from salver.models.description import Inputs
from salver.models.frameworks.tables import as_matrix
from salver.models.signature import Signature
from salver.settings import math_threads

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input of a network.

    Attributes:
        name: Of the argument.
        is_required: Whether it has no default.
        dtype: PyTorch's; null if any will do.
        shape: With the rows first and -1 for any size; null if it is not known.
        is_keyword: Whether it is given by name.
    """

    name: str
    is_required: bool = True
    dtype: Any = None
    shape: tuple[int, ...] | None = None
    is_keyword: bool = True


class Network:
    """A module with what it takes.

    Args:
        module: Maps tensors to a tensor, or to a dict or tuple of them.
        signature: Columns that are named as inputs are fed to them; else all make up the one.
        wanted: Its inputs.
        rows_at_once: The fewest and the most rows that it takes; what lacks is filled up.

    Raises:
        CheckpointError: If the signature does not fit the inputs.
    """

    def __init__(
        self,
        module: Any,
        signature: Signature,
        wanted: Sequence[Wanted],
        rows_at_once: tuple[int, int | None] = (1, None),
    ) -> None:
        use_threads()
        self._module = module
        self._least, self._most = rows_at_once
        first = next(module.parameters(), None)
        self._device = "cpu" if first is None else first.device
        self._is_matrix, self._wanted = _fitting(signature, wanted)
        self._try(signature)

    def __call__(self, inputs: Inputs) -> dict[str, Array]:
        """The outputs, one entry per row."""
        given = self._given(inputs)
        n = len(given[0])
        # Rows of different shapes cannot stand in one tensor.
        step = 1 if any(values.dtype == object for values in given) else self._most or n
        parts = [self._asked([v[i : i + step] for v in given]) for i in range(0, n, step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _given(self, inputs: Inputs) -> list[Array]:
        if self._is_matrix:
            return [as_matrix(inputs, "float32")]
        if len(self._wanted) == 1:
            return list(inputs.values())
        found = [inputs[one.name] for one in self._wanted]
        return [
            # A number for each row, where the network takes a matrix of one column.
            values[:, None] if _is_column(one, values) else values
            for one, values in zip(self._wanted, found, strict=True)
        ]

    def _asked(self, rows: list[Array]) -> dict[str, Array]:
        import torch

        n = len(rows[0])
        positional, named = [], {}
        for one, values in zip(self._wanted, rows, strict=True):
            array = np.stack(list(values)) if values.dtype == object else values
            if n < self._least:
                array = np.concatenate([array, np.repeat(array[-1:], self._least - n, axis=0)])
            tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
            tensor = tensor.to(self._device, one.dtype)
            if one.is_keyword:
                named[one.name] = tensor
            else:
                positional.append(tensor)
        with torch.inference_mode():
            output = self._module(*positional, **named)
        return {name: _as_array(name, value)[:n] for name, value in _by_name(output).items()}

    def _try(self, signature: Signature) -> None:
        """Asks a row of zeros, so that what does not fit is known at the start."""
        if any(size < 0 for column in signature.columns for size in column.shape):
            return
        zeros = {c.name: np.zeros((1, *c.shape), c.dtype) for c in signature.columns}
        try:
            self(zeros)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"The module fails on a row of zeros that fits its signature: {error} Log it with "
                "the signature of what it was trained on."
            ) from error


def use_threads() -> None:
    """Gives PyTorch as many threads as this replica may have."""
    import torch

    count = math_threads()
    if count is not None:
        torch.set_num_threads(count)


def device() -> str:
    """Where networks run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _fitting(signature: Signature, wanted: Sequence[Wanted]) -> tuple[bool, list[Wanted]]:
    """Whether all columns make up one matrix, and the inputs that are fed."""
    columns = signature.columns
    for column in columns:
        if column.dtype is None or column.dtype in ("str", "bytes", "datetime64[us]"):
            raise CheckpointError(
                f"The signature's input {column.name!r} is no number or tensor of numbers, which "
                "is what PyTorch takes. Log the model with the signature of its tensors."
            )
    needed = [one for one in wanted if one.is_required] or list(wanted[:1])
    is_one = len(needed) == 1
    if is_one and not any(column.shape for column in columns):
        rank = None if needed[0].shape is None else len(needed[0].shape)
        if rank != 1:
            _check_shape(needed[0], (len(columns),))
            return True, needed
    if is_one and len(columns) == 1:
        _check_shape(needed[0], columns[0].shape)
        return False, needed
    names = {column.name: column.shape for column in columns}
    if not {one.name for one in needed} <= set(names) <= {one.name for one in wanted}:
        raise CheckpointError(
            f"The signature names the inputs {sorted(names)}, and the module takes "
            f"{[one.name for one in wanted]}. Log the model with a signature whose columns are the "
            "module's inputs."
        )
    fed = [one for one in wanted if one.name in names]
    for one in fed:
        _check_shape(one, names[one.name] or (1,) * (len(one.shape or (0,)) - 1))
    return False, fed


def _is_column(one: Wanted, values: Array) -> bool:
    is_flat = values.ndim == 1 and values.dtype != object  # an object may be an array
    return is_flat and one.shape is not None and len(one.shape) == 2


def _check_shape(one: Wanted, given: tuple[int, ...]) -> None:
    if one.shape is None:
        return
    sizes = one.shape[1:]
    same = len(given) == len(sizes) and all(
        g < 0 or s < 0 or g == s for g, s in zip(given, sizes, strict=True)
    )
    if not same:
        raise CheckpointError(
            f"A row of the signature has the shape {given}, and the program takes {sizes} for "
            f"{one.name!r} (-1 is any size). Log the model with the signature of what it takes."
        )


def _by_name(output: Any) -> dict[str, Any]:
    if hasattr(output, "_asdict"):
        output = output._asdict()
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items() if value is not None}
    if isinstance(output, list | tuple):
        return {f"output_{i}": value for i, value in enumerate(output)}
    return {"prediction": output}


def _as_array(name: str, value: Any) -> Array:
    """A tensor of rows; one column of a matrix stands for itself."""
    import torch

    if not isinstance(value, torch.Tensor) or value.ndim == 0:
        raise TypeError(f"The output {name!r} is a {type(value).__name__}, not one entry per row.")
    value = value.detach().cpu()
    array = (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
    array = np.asarray(array)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
