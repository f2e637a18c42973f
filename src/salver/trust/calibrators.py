"""What changes probabilities of classes so that they tell how often the model is right.

What a model computed before its probabilities is not known here, so their logarithms stand for it.
The class that the model names never changes, only how sure it is of it. This module does not know
how a calibrator was fitted.

NumPy alone is needed. Each row's answer is of that row alone, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np

from salver.errors import CheckpointError
from salver.trust.quality import LEAST, Array


class Calibrator(Protocol):
    """Changes probabilities of classes.

    Attributes:
        name: Of the kind.
    """

    name: ClassVar[str]

    def __call__(self, probabilities: Array) -> Array:
        """Float64 of shape (n, k), whose rows sum to 1, from such.

        Raises:
            CheckpointError: If the calibrator is of another number of classes.
        """

    def as_json(self) -> dict[str, Any]:
        """What `calibrator_of` makes the same calibrator of."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Leaves probabilities as they are."""

    name: ClassVar[str] = "identity"

    def __call__(self, probabilities: Array) -> Array:
        """See `Calibrator`."""
        return np.asarray(probabilities, dtype=np.float64)

    def as_json(self) -> dict[str, Any]:
        """See `Calibrator`."""
        return {"name": self.name}


@dataclass(frozen=True, slots=True)
class Temperature:
    """Makes all probabilities more even, or less, by one number (Guo et al. 2017).

    Attributes:
        t: What logarithms are divided by; above 1, the model becomes less sure.
    """

    t: float
    name: ClassVar[str] = "temperature"

    def __call__(self, probabilities: Array) -> Array:
        """See `Calibrator`."""
        return softmax(logits_of(probabilities) / self.t)

    def as_json(self) -> dict[str, Any]:
        """See `Calibrator`."""
        return {"name": self.name, "t": self.t}


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """A weight and a bias for the logarithm of each class (Guo et al. 2017).

    Attributes:
        weights: One for each of k classes.
        biases: Likewise.
    """

    weights: tuple[float, ...]
    biases: tuple[float, ...]
    name: ClassVar[str] = "vector_scaling"

    def __call__(self, probabilities: Array) -> Array:
        """See `Calibrator`."""
        given = _of_classes(probabilities, len(self.weights))
        return softmax(logits_of(given) * np.array(self.weights) + np.array(self.biases))

    def as_json(self) -> dict[str, Any]:
        """See `Calibrator`."""
        return {"name": self.name, "weights": list(self.weights), "biases": list(self.biases)}


@dataclass(frozen=True, slots=True)
class Knots:
    """A line from knot to knot that never falls; level before the first and after the last.

    Attributes:
        at: Probabilities that the model gives, ascending.
        share: How often the class is the true one there, within 0 to 1, never falling.
    """

    at: tuple[float, ...]
    share: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Isotonic:
    """One line for each class against all others, then made to sum to 1 (Zadrozny & Elkan 2002).

    Attributes:
        classes: The line of each of k classes.
    """

    classes: tuple[Knots, ...]
    name: ClassVar[str] = "isotonic"
    _lines: tuple[tuple[Array, Array], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lines = tuple((np.array(one.at), np.array(one.share)) for one in self.classes)
        object.__setattr__(self, "_lines", lines)

    def __call__(self, probabilities: Array) -> Array:
        """See `Calibrator`. A row where every line is 0 stays as it is."""
        given = _of_classes(probabilities, len(self.classes))
        columns = [np.interp(given[:, i], *line) for i, line in enumerate(self._lines)]
        shares = np.column_stack(columns)
        total = shares.sum(axis=1, keepdims=True)
        has_any = total > 0
        return np.where(has_any, shares / np.where(has_any, total, 1.0), given)

    def as_json(self) -> dict[str, Any]:
        """See `Calibrator`."""
        classes = [{"at": list(one.at), "share": list(one.share)} for one in self.classes]
        return {"name": self.name, "classes": classes}


def calibrator_of(json: Any) -> Calibrator:
    """The calibrator that `as_json` described.

    Raises:
        CheckpointError: If it is not such a description.
    """
    try:
        match json:
            case {"name": "identity", **rest} if not rest:
                return Identity()
            case {"name": "temperature", "t": t, **rest} if not rest:
                return Temperature(_positive(t))
            case {"name": "vector_scaling", "weights": weights, "biases": biases, **rest} if (
                not rest and len(weights) == len(biases) > 0
            ):
                return VectorScaling(_numbers(weights), _numbers(biases))
            case {"name": "isotonic", "classes": [_, *_] as classes, **rest} if not rest:
                return Isotonic(tuple(_knots(one) for one in classes))
    except (KeyError, TypeError, ValueError):
        pass
    shown = repr(json)
    raise CheckpointError(
        f"No calibration is described by {shown[:200]}{'...' if len(shown) > 200 else ''}. Known "
        f"are {', '.join(_KINDS)}, each with its finite numbers. Calibrate the model again."
    )


def confidence(probabilities: Array, calibrator: Calibrator) -> Array:
    """How sure the model may be of the class that it names.

    Args:
        probabilities: Of the model itself, float of shape (n, k).
        calibrator: To apply.

    Returns:
        float64 of shape (n,): the calibrated probability of the class that is the most likely
        before calibration.
    """
    mended = calibrator(probabilities)
    return np.asarray(mended[np.arange(len(mended)), np.argmax(probabilities, axis=1)])


def logits_of(probabilities: Array) -> Array:
    """What stands for logits: logarithms of probabilities, of shape (n, k)."""
    # Contiguous, for NumPy computes logarithms of strided rows by another path.
    given = np.ascontiguousarray(probabilities, dtype=np.float64)
    return np.asarray(np.log(np.clip(given, LEAST, 1.0)))


def softmax(logits: Array) -> Array:
    """Probabilities of logits, both float64 of shape (n, k)."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _of_classes(probabilities: Array, k: int) -> Array:
    given = np.ascontiguousarray(probabilities, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != k:
        raise CheckpointError(
            f"The calibration is of {k} classes, but the model gave probabilities of shape "
            f"{given.shape}. Calibrate the model again."
        )
    return given


def _numbers(given: Any) -> tuple[float, ...]:
    if not isinstance(given, list):
        raise TypeError(given)
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in given):
        raise TypeError(given)
    if not all(math.isfinite(one) for one in given):
        raise ValueError(given)
    return tuple(float(one) for one in given)


def _positive(given: Any) -> float:
    (t,) = _numbers([given])
    if t <= 0:
        raise ValueError(t)
    return t


def _knots(given: Mapping[str, Any]) -> Knots:
    at, share = _numbers(given["at"]), _numbers(given["share"])
    is_ascending = all(a < b for a, b in pairwise(at))
    never_falls = all(a <= b for a, b in pairwise(share))
    if not (len(given) == 2 and len(at) == len(share) > 0 and is_ascending and never_falls):
        raise ValueError(given)
    if share[0] < 0 or share[-1] > 1:
        raise ValueError(given)
    return Knots(at, share)


_KINDS = (Identity.name, Temperature.name, VectorScaling.name, Isotonic.name)
