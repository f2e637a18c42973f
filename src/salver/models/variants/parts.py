"""The part of a loaded model that computes: found, listened to, and exchanged.

A network of PyTorch, a session of ONNX Runtime, an estimator of scikit-learn or a booster, in
whichever attribute a class keeps it. What a class does around it stays as it is. This module does not know
runtimes, nor how a graph is made of a part.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from salver.errors import CheckpointError

MAX_DEPTH = 4  # of attributes in attributes

Array = np.ndarray[Any, Any]
Run = Callable[[Sequence[Array]], Sequence[Array]]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """What a part was given once.

    Attributes:
        arrays: By name.
        constants: All else: numbers, texts and null, by name.
        arranged: How the part was given them, which only its own kind understands.
    """

    arrays: Mapping[str, Array]
    constants: Mapping[str, Any]
    arranged: Any = field(default=None, compare=False, repr=False)

    @property
    def form(self) -> tuple[Any, ...]:
        """What calls that one graph can answer have in common."""
        arrays = tuple((name, str(array.dtype), array.ndim) for name, array in self.arrays.items())
        return arrays, tuple(self.constants.items())


class Part(Protocol):
    """A part of one kind.

    Attributes:
        kind: "torch", "onnx", "sklearn" or "booster".
        value: The object itself.
    """

    kind: str
    value: Any

    def listening(self) -> AbstractContextManager[list[Call]]:
        """While the context is open, notes what the part is given; it answers as before.

        Raises:
            CheckpointError: When it is given, or gives, what cannot be exchanged.
        """
        ...

    def exchange(
        self, run: Run, inputs: Sequence[tuple[str, str]], constants: Mapping[str, Any]
    ) -> None:
        """Has `run` answer calls with just these inputs and constants; others go to the original.

        Args:
            run: Given the arrays in the order of `inputs`; gives the outputs in their order.
            inputs: Names and dtypes.
            constants: By name.

        Raises:
            CheckpointError: If the part cannot be asked so.
        """
        ...


def parts_of(model: Any) -> dict[Path, Part]:
    """All parts that a model holds in its attributes, outermost ones only, by where they are."""
    return dict(_walk(model, (), set()))


def part_at(model: Any, kind: str, path: Path) -> Part:
    """The part at a path.

    Raises:
        CheckpointError: If there is none of that kind.
    """
    found = parts_of(model).get(path)
    if found is None or found.kind != kind:
        where = ".".join(map(str, path)) or "the model itself"
        raise CheckpointError(
            f"{type(model).__name__} has no part of {kind} at {where!r}, for which the variant was "
            "made. Run salver optimize again."
        )
    return found


def _walk(
    value: Any, path: Path, seen: set[int], holder: Any = None
) -> Iterator[tuple[Path, Part]]:
    if id(value) in seen or len(path) > MAX_DEPTH:
        return
    seen.add(id(value))
    part = _part(value, holder, path)
    if part is not None:
        yield path, part
        return
    for name, inner in _inner(value):
        yield from _walk(inner, (*path, name), seen, value)


def _inner(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return [(key, inner) for key, inner in value.items() if isinstance(key, str)]
    if isinstance(value, list | tuple):
        return list(enumerate(value[:100]))
    if isinstance(value, type) or callable(getattr(value, "__func__", None)):
        return []
    names = getattr(value, "__dict__", None)
    return list(names.items()) if isinstance(names, dict) and _is_plain(value) else []


def _is_plain(value: Any) -> bool:
    """Whether to look into an object: those of modules and of Python itself hold no model."""
    return type(value).__module__.partition(".")[0] not in sys.stdlib_module_names


def _part(value: Any, holder: Any, path: Path) -> Part | None:
    """`value` as a part, if it is one; libraries that nobody has imported have made none."""
    if _is_of(value, "torch.nn", "Module"):
        from salver.models.variants.torch_part import TorchPart

        return TorchPart(value)
    if _is_of(value, "onnxruntime", "InferenceSession"):
        from salver.models.variants.onnx_part import OnnxPart

        return OnnxPart(value, holder, path[-1]) if path else None
    if _is_of(value, "sklearn.base", "BaseEstimator") and hasattr(value, "predict"):
        from salver.models.variants.sklearn_part import SklearnPart

        return SklearnPart(value, holder, path[-1]) if path else None
    if _is_of(value, "lightgbm", "Booster") or _is_of(value, "xgboost", "Booster"):
        from salver.models.variants.booster_part import BoosterPart

        return BoosterPart(value, holder, path[-1]) if path else None
    return None


def _is_of(value: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(value, kind)


class Instead:
    """Stands for an object, one method of which is answered by another; all else is its own.

    No copy, for a booster frees its memory when it goes.
    """

    def __init__(self, value: Any, method: str, ask: Callable[..., Any]) -> None:
        self._value = value
        setattr(self, method, ask)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)


@contextlib.contextmanager
def held(holder: Any, name: str | int, value: Any, instead: Any) -> Iterator[None]:
    """While the context is open, `instead` is held where `value` is.

    Raises:
        CheckpointError: If the holder does not let that happen.
    """
    put(holder, name, instead)
    try:
        yield
    finally:
        put(holder, name, value)


def outputs_of(run: Run, arrays: Sequence[Array]) -> Sequence[Array] | None:
    """What a graph gives; null if it fails, for then the original answers, or says what is wrong."""
    try:
        return run(arrays)
    except Exception:  # noqa: BLE001 - of the runtime, for a size or a category it does not know
        return None


def put(holder: Any, name: str | int, value: Any) -> None:
    """Puts another object where one is held.

    Raises:
        CheckpointError: If the holder does not let that happen.
    """
    try:
        if isinstance(holder, Mapping | list):
            holder[name] = value  # type: ignore[index]
        else:
            setattr(holder, str(name), value)
    except (AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{type(holder).__name__}.{name} cannot be exchanged: {error}"
        ) from error
