"""Business rules: pure functions from scored rows to decided rows.

A policy runs in the replica right after the model, on every path, so that a rule cannot exist
online only. It may change `prediction` and add columns; a model's probabilities stay as they
are. Policies import no clock, thread, socket or logger and do not know where a row came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from salver.errors import ConfigError, InvalidOption, UnknownOption

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model said about a batch.

    Attributes:
        columns: Output columns but for the probabilities: n plain values each.
        probabilities: float64 array of shape (n, k), or null for a model without them.
        classes: The k class names in the order of the columns of `probabilities`.
        abstained: bool array of shape (n,): rows whose own answer a policy withheld.
    """

    columns: Mapping[str, list[Any]]
    probabilities: np.ndarray[Any, Any] | None
    classes: tuple[Any, ...]
    abstained: np.ndarray[Any, Any]


@runtime_checkable
class Policy(Protocol):
    """A rule over a batch of results; pure, and the same for a row whatever its neighbours."""

    needs_probabilities: bool

    def __call__(self, scored: Scored) -> Scored:
        """The rows after the rule."""
        ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """Answers `otherwise` where the largest class probability is below `p`.

    The reject option of Chow (1970), "On optimum recognition error and reject tradeoff".

    Args:
        p: Least probability of an answer that is given, from 0 to 1.
        otherwise: The prediction of all other rows; null by default.
    """

    p: float
    otherwise: Any = None

    needs_probabilities = True

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or not isinstance(self.p, int | float) or not 0 <= self.p <= 1:
            raise InvalidOption("Threshold.p", self.p, "a probability from 0 to 1")

    def __call__(self, scored: Scored) -> Scored:
        """Rows at or above the threshold keep their prediction."""
        assert scored.probabilities is not None  # the pipeline refuses such an output
        unsure = scored.probabilities.max(axis=1, initial=0.0) < self.p
        if not unsure.any():
            return scored
        prediction = [
            self.otherwise if below else own
            for own, below in zip(scored.columns["prediction"], unsure, strict=True)
        ]
        columns = {**scored.columns, "prediction": prediction}
        return replace(scored, columns=columns, abstained=scored.abstained | unsure)


POLICIES: dict[str, Any] = {"Threshold": Threshold}


def as_policies(given: Any) -> tuple[Policy, ...]:
    """The policies of an option: null, a policy, a list of them, or their form in YAML.

    In YAML a policy is a mapping of its name to its arguments, for example
    `policy: {Threshold: {p: 0.9, otherwise: other}}`.

    Raises:
        ConfigError: For anything else, and for a name or an argument that does not exist.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return tuple(_from_mapping(name, arguments) for name, arguments in given.items())
    if isinstance(given, list | tuple):
        return tuple(policy for one in given for policy in as_policies(one))
    if isinstance(given, Policy) and not isinstance(given, type):
        return (given,)
    raise ConfigError(
        f"policy= was given {given!r}; it takes a policy such as Threshold(0.9, otherwise='other'), "
        "a list of them, or null. A policy of your own is a callable object with the attribute "
        "needs_probabilities (true or false) that maps a Scored to a Scored."
    )


def _from_mapping(name: str, arguments: Any) -> Policy:
    if name not in POLICIES:
        raise UnknownOption(str(name), arguments, POLICIES, "policy")
    try:
        policy: Policy = POLICIES[name](**arguments)
    except TypeError as error:
        raise ConfigError(f"Policy {name} was given {arguments!r}: {error}.") from None
    return policy
