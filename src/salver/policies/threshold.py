"""A fixed limit on the largest probability. It does not know whether the limit is a good one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from salver.errors import InvalidOption
from salver.policies.scored import Scored, Written


@dataclass(frozen=True, slots=True, repr=False)
class Threshold(Written):
    """Answers `otherwise` where the largest class probability is below `p`.

    The reject option of Chow (1970), "On optimum recognition error and reject tradeoff". The
    probability is the model's own, not a calibrated one.

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
        largest = scored.probabilities.max(axis=1, initial=0.0)
        return scored.withheld(
            largest < self.p,
            self.otherwise,
            lambda i: f"Threshold: probability {largest[i]:.3f} is below {self.p:g}",
        )
