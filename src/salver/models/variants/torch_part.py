"""A network of PyTorch: its `forward` is listened to, and answered elsewhere.

The module stays, with its parameters, attributes and all that a class may ask of it; it answers
calls of the usual form from a graph, and others by itself. It does not know runtimes.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from salver.errors import CheckpointError
from salver.models.variants.parts import Array, Call, Run, outputs_of

_PLAIN = (bool, int, float, str, type(None))


class TorchPart:
    """See the module's description.

    Args:
        value: The outermost module.
    """

    kind = "torch"

    def __init__(self, value: torch.nn.Module) -> None:
        self.value = value
        self.forward = value.forward
        self._signature = inspect.signature(value.forward)

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[Call]]:
        """See `Part`."""
        calls: list[Call] = []
        plain: list[list[Any]] = []

        def forward(*args: Any, **kwargs: Any) -> Any:
            tensors, constants, arranged = self._flat(args, kwargs)
            output = self.forward(*args, **kwargs)
            tensors_of(output)
            plain.append([x for x in pytree.tree_leaves(output) if isinstance(x, _PLAIN)])
            if plain[-1] != plain[0]:
                raise CheckpointError(
                    f"The network gives {plain[0]} beside its tensors, and {plain[-1]} at another "
                    "call; salver optimize exchanges networks where that stays the same."
                )
            # Copied, for a class may write the next rows into the same memory.
            arrays = {
                name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()
            }
            calls.append(Call(arrays, constants, arranged))
            return output

        self.value.forward = forward
        try:
            yield calls
        finally:
            self.value.forward = self.forward

    def exchange(
        self, run: Run, inputs: Sequence[tuple[str, str]], constants: Mapping[str, Any]
    ) -> None:
        """See `Part`; the first call is answered by both, and shows how outputs are arranged."""
        if next((p for p in self.value.parameters() if p.device.type != "cpu"), None) is not None:
            raise CheckpointError("The network is on a GPU, and the variant is for processors.")
        names = [name for name, _ in inputs]
        dtypes = dict(inputs)
        arranged: list[Any] = []

        def forward(*args: Any, **kwargs: Any) -> Any:
            try:
                tensors, others, _ = self._flat(args, kwargs)
            except CheckpointError:
                return self.forward(*args, **kwargs)
            given = {name: str(t.dtype).removeprefix("torch.") for name, t in tensors.items()}
            if list(tensors) != names or given != dtypes or others != constants:
                return self.forward(*args, **kwargs)
            if not arranged:
                output = self.forward(*args, **kwargs)
                leaves, spec = pytree.tree_flatten(output)
                arranged.append((leaves, spec))
            found = outputs_of(run, [tensor.detach().numpy() for tensor in tensors.values()])
            if found is None:
                return self.forward(*args, **kwargs)
            left = iter(found)
            leaves, spec = arranged[0]
            return pytree.tree_unflatten([_as_leaf(leaf, left) for leaf in leaves], spec)

        self.value.forward = forward

    def _flat(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any], Any]:
        """The tensors of a call by name, all else by name, and both as they were arranged.

        Raises:
            CheckpointError: For what is neither a tensor nor plain.
        """
        bound = self._signature.bind(*args, **kwargs)
        positional = list(self._signature.parameters)
        named, spec = pytree.tree_flatten_with_path((bound.args, bound.kwargs))
        tensors, constants = {}, {}
        for path, leaf in named:
            name = _name(path, positional)
            if isinstance(leaf, torch.Tensor):
                tensors[name] = leaf
            elif isinstance(leaf, _PLAIN):
                constants[name] = leaf
            else:
                raise CheckpointError(
                    f"The network is given a {type(leaf).__name__} as {name!r}; salver optimize "
                    "exchanges networks that take tensors."
                )
        return tensors, constants, ([leaf for _, leaf in named], spec)


def _name(path: Sequence[Any], positional: Sequence[str]) -> str:
    """What a leaf is called: the parameter of `forward`, and what leads into it."""
    kind, first, *rest = (getattr(step, "idx", getattr(step, "key", step)) for step in path)
    named = [first]
    if kind == 0:
        # Beyond the parameters with a name are those of *args.
        named = [positional[first]] if first < len(positional) else [positional[-1], first]
    return ".".join(map(str, [*named, *rest]))


def tensors_of(output: Any) -> list[torch.Tensor]:
    """The tensors of what a network gives.

    Raises:
        CheckpointError: If there are none, or beside them what a graph cannot give.
    """
    leaves = pytree.tree_leaves(output)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    others = [leaf for leaf in leaves if not isinstance(leaf, (torch.Tensor, *_PLAIN))]
    if others or not tensors:
        raise CheckpointError(
            f"The network gives a {type([*others, output][0]).__name__}; salver optimize exchanges "
            "networks that give tensors."
        )
    return tensors


def _as_leaf(leaf: Any, found: Iterator[Array]) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return torch.from_numpy(next(found)).to(leaf.dtype)
