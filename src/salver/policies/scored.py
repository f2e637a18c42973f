"""What policies are given, and what they are.

It does not know where confidence and novelty come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from salver.errors import ConfigError, last_line

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Reason = str | None


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model said about a batch.

    Attributes:
        columns: Output columns but for the probabilities: n plain values each.
        probabilities: float64 array of shape (n, k), or null for a model without them.
        classes: The k class names in the order of the columns of `probabilities`.
        abstained: bool array of shape (n,): rows whose own answer a policy withheld.
        confidence: float64 array of shape (n,): calibrated probability of the model's own class;
            null if nothing was calibrated.
        novelty: float64 array of shape (n,): how unlike the training data a row is, where 1 is the
            95 % quantile of ordinary rows; null if nothing was calibrated.
        reasons: Why each of the n rows was withheld, null for the others; empty if none was.
    """

    columns: Mapping[str, list[Any]]
    probabilities: Array | None
    classes: tuple[Any, ...]
    abstained: Array
    confidence: Array | None = None
    novelty: Array | None = None
    reasons: Sequence[Reason] = ()

    def withheld(self, rows: Array, otherwise: Any, why: Callable[[int], str]) -> Scored:
        """The same with another prediction for some rows; the first policy to withhold one counts.

        Args:
            rows: bool of shape (n,).
            otherwise: The prediction of these rows.
            why: Gives the reason for the row at a position.
        """
        new = rows & ~self.abstained
        if not new.any():
            return self
        own = self.columns.get("prediction", [None] * len(new))
        prediction = [otherwise if n else p for n, p in zip(new, own, strict=True)]
        before = self.reasons or [None] * len(new)
        reasons = [why(i) if n else r for i, (n, r) in enumerate(zip(new, before, strict=True))]
        columns = {**self.columns, "prediction": prediction}
        return replace(self, columns=columns, abstained=self.abstained | new, reasons=reasons)


class Written:
    """Shown as it is written, without what is left at its default."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Such as `Precision(0.95, otherwise='other')`."""
        first, *others = ((f, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        given = [f"{f.name}={value!r}" for f, value in others if value != f.default]
        return f"{type(self).__name__}({', '.join([repr(first[1]), *given])})"


@runtime_checkable
class Policy(Protocol):
    """A rule over a batch of results; pure, and the same for a row whatever its neighbours."""

    needs_probabilities: bool

    def __call__(self, scored: Scored) -> Scored:
        """The rows after the rule."""
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows that neither the model nor its calibration was fitted on, m of them.

    Attributes:
        scored: What the model says to them.
        right: bool array of shape (m,): whether the model's own prediction is true; null if no
            labels are known.
        labels: int array of shape (m,): positions of the true classes, -1 for one that the model
            does not have; null if no labels are known.
    """

    scored: Scored
    right: Array | None = None
    labels: Array | None = None

    def __len__(self) -> int:
        return len(self.scored.abstained)

    def take(self, rows: Array) -> HeldOut:
        """The rows for which `rows`, bool of shape (m,), is true."""

        def part(array: Array | None) -> Array | None:
            return None if array is None else array[rows]

        given = self.scored
        scored = Scored(
            {
                name: [v for v, t in zip(c, rows, strict=True) if t]
                for name, c in given.columns.items()
            },
            part(given.probabilities),
            given.classes,
            given.abstained[rows],
            part(given.confidence),
            part(given.novelty),
        )
        return HeldOut(scored, part(self.right), part(self.labels))


@runtime_checkable
class Promise(Policy, Protocol):
    """A policy that states what it will keep, for which held-out rows must tell the limits."""

    def kept_on(self, held_out: HeldOut) -> Policy:
        """The rule with limits that keep the promise.

        Raises:
            ConfigError: If it cannot be kept, or the rows are too few to say so.
        """
        ...


def kept(policies: Sequence[Policy], held_out: HeldOut | None) -> tuple[Policy, ...]:
    """Policies with their limits: of a promise, on what those before it let pass.

    Args:
        policies: In the order in which they decide.
        held_out: Null if nothing was calibrated.

    Raises:
        ConfigError: If one promises something, and that cannot be kept or said.
    """
    found: list[Policy] = []
    promises = [i for i, policy in enumerate(policies) if isinstance(policy, Promise)]
    for i, policy in enumerate(policies):
        rule = policy
        if isinstance(policy, Promise):
            if held_out is None:
                raise ConfigError(
                    f"{policy!r} states a promise, and no held-out rows say how to keep it. Run "
                    "salver calibrate TARGET --on HELDOUT with this model and code."
                )
            rule = policy.kept_on(held_out)
        found.append(rule)
        if held_out is not None and i < max(promises, default=0):
            held_out = _passed(rule, held_out)
    return tuple(found)


def _passed(rule: Policy, held_out: HeldOut) -> HeldOut:
    """The rows that a rule lets pass.

    Raises:
        ConfigError: If it cannot be asked held-out rows, or gives other predictions.
    """
    before, name = held_out.scored.columns.get("prediction"), type(rule).__name__
    try:
        after = rule(held_out.scored)
        passed = ~after.abstained
        said = after.columns.get("prediction")
        is_same = said == before or all(
            a == b for a, b, p in zip(said or (), before or (), passed.tolist(), strict=True) if p
        )
    except Exception as error:  # of a policy of the user's own
        raise ConfigError(
            f"{name} stands before a promise, and fails on held-out rows, of which only the "
            f"prediction and the probabilities are known ({last_line(error)}). Put it last."
        ) from error
    if not is_same:
        raise ConfigError(
            f"{name} stands before a promise, and gives other predictions than the model, so that "
            "nobody knows which of them are right. Put it last."
        )
    return held_out.take(passed)


def described(policy: Policy) -> str:
    """What a policy is, the same in every process: a plain object's repr is where it lies."""
    kind = type(policy)
    if kind.__repr__ is not object.__repr__:
        return repr(policy)
    return (
        f"{kind.__module__}:{kind.__qualname__} {sorted(getattr(policy, '__dict__', {}).items())}"
    )
