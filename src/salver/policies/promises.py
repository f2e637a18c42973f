"""Policies that state a promise: what is true of the answers, not where a limit lies.

The limits come from held-out rows, when a model is loaded. Each promise is one about new rows like
the held-out ones, and holds with the stated confidence over which rows were held out; see
`salver.bounds` for how. These policies do not know how confidence and novelty were made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from salver.errors import ConfigError, InvalidOption
from salver.policies.scored import HeldOut, Scored, Written

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

ROUNDING = 1e-6  # by which runtimes and batches move a score; a limit may lie on that of a row
_BEYOND = 1e300  # of a label that the model does not have: no score is so large
USES = ("confidence", "probability")


class _Stated(Written):
    """A promise whose limits are not known yet."""

    __slots__ = ()

    def __call__(self, scored: Scored) -> Scored:
        """Never asked: `kept_on` gives what is."""
        raise ConfigError(f"{self!r} has no limits yet: they come from salver calibrate.")


@dataclass(frozen=True, slots=True, repr=False)
class Precision(_Stated):
    """Answers only where that keeps the share of right answers at `precision` or above.

    Selective classification with a guaranteed risk (Geifman & El-Yaniv 2017).

    Args:
        precision: Least share of right ones among the answers that are given, between 0 and 1.
        otherwise: The prediction of all other rows; null by default.
        per_class: Whether the promise is one for each class that is answered, not for all together;
            one that no held-out row was answered with is withheld.
        confidence: Of the promise itself: probability, over the choice of held-out rows, that it is
            kept.
        uses: "confidence" (calibrated) or "probability" (the model's own).
    """

    precision: float
    otherwise: Any = None
    per_class: bool = False
    confidence: float = 0.9
    uses: str = "confidence"

    needs_probabilities = True

    def __post_init__(self) -> None:
        _check_share("Precision.precision", self.precision)
        _check_share("Precision.confidence", self.confidence)
        _check_uses("Precision.uses", self.uses)
        if not isinstance(self.per_class, bool):
            raise InvalidOption("Precision.per_class", self.per_class, "true or false")

    def kept_on(self, held_out: HeldOut) -> Above:
        """See `Promise`."""
        from salver import bounds

        right = _right(self, held_out)
        scores = _scores(self, held_out.scored, self.uses)
        if not self.per_class:
            limit = bounds.precision_threshold(scores, right, self.precision, self.confidence)
            return Above("Precision", self.uses, limit.threshold, self.otherwise)
        best = _best(held_out.scored)
        _refuse_other_predictions(self, held_out.scored, best)
        limits = {}
        for position, name in enumerate(held_out.scored.classes):
            mine = best == position
            if not mine.any():
                continue  # of a class that was never answered nothing is known, so none is
            try:
                found = bounds.precision_threshold(
                    scores[mine], right[mine], self.precision, self.confidence
                )
            except ConfigError as error:
                raise type(error)(f"Of the class {name!r}: {error.message}") from error
            limits[position] = found.threshold
        return Above("Precision", self.uses, math.inf, self.otherwise, limits)


@dataclass(frozen=True, slots=True, repr=False)
class Coverage(_Stated):
    """Answers the surest rows, and at least this share of all.

    Args:
        coverage: Least share of rows that are answered, between 0 and 1.
        otherwise: The prediction of all other rows; null by default.
        confidence: As of `Precision`.
        uses: As of `Precision`.
    """

    coverage: float
    otherwise: Any = None
    confidence: float = 0.9
    uses: str = "confidence"

    needs_probabilities = True

    def __post_init__(self) -> None:
        _check_share("Coverage.coverage", self.coverage)
        _check_share("Coverage.confidence", self.confidence)
        _check_uses("Coverage.uses", self.uses)

    def kept_on(self, held_out: HeldOut) -> Above:
        """See `Promise`."""
        from salver import bounds

        scores = _scores(self, held_out.scored, self.uses)
        found = bounds.coverage_threshold(scores, self.coverage, self.confidence)
        return Above("Coverage", self.uses, found.threshold, self.otherwise)


@dataclass(frozen=True, slots=True, repr=False)
class ConformalSet(_Stated):
    """Adds `prediction_set`: labels of which one is the true one in `coverage` of all rows.

    Split conformal prediction with the probability of a label as its score (Sadinle, Lei &
    Wasserman 2019; Angelopoulos & Bates 2021). The label that the model is surest of is always in
    the set, which can only make it cover more. The probabilities are the model's own.

    Args:
        coverage: Share of rows whose set holds the true label, between 0 and 1.
    """

    coverage: float

    needs_probabilities = True

    def __post_init__(self) -> None:
        _check_share("ConformalSet.coverage", self.coverage)

    def kept_on(self, held_out: HeldOut) -> Sets:
        """See `Promise`."""
        import numpy as np

        from salver import bounds

        _right(self, held_out)
        assert held_out.labels is not None
        given = held_out.scored.probabilities
        assert given is not None
        # A label that the model does not have is in no set, whatever the limit.
        own = given[np.arange(len(given)), np.maximum(held_out.labels, 0)]
        strange = np.where(held_out.labels < 0, _BEYOND, 1 - own)
        limit = bounds.conformal_quantile(strange, self.coverage)
        if limit == _BEYOND:
            raise ConfigError(
                f"{self!r} cannot be kept: more than {1 - self.coverage:.0%} of the held-out rows "
                "have a label that the model does not know."
            )
        return Sets(limit)


@dataclass(frozen=True, slots=True, repr=False)
class Novelty(_Stated):
    """Answers `otherwise` where a row is more novel than all but `share` of ordinary rows.

    A conformal test for outliers (Bates et al. 2023): of new rows like the held-out ones, at most
    `share` are withheld.

    Args:
        share: Of ordinary rows that may be withheld, between 0 and 1.
        otherwise: The prediction of these rows; null by default.
    """

    share: float = 0.01
    otherwise: Any = None

    needs_probabilities = False

    def __post_init__(self) -> None:
        _check_share("Novelty.share", self.share)

    def kept_on(self, held_out: HeldOut) -> Beyond:
        """See `Promise`."""
        from salver import bounds

        if held_out.scored.novelty is None:
            raise ConfigError(f"{self!r} needs a novelty score, and this model has none.")
        limit = bounds.rejection_limit(held_out.scored.novelty, self.share)
        return Beyond(limit, self.otherwise)


@dataclass(frozen=True, slots=True)
class Above:
    """Answers where a score reaches a limit, or that of the class the model names.

    Attributes:
        name: Of the promise that it keeps.
        uses: "confidence" or "probability".
        limit: Least score; where `limits` are given, of a class without one.
        otherwise: The prediction of all other rows.
        limits: By position of a class; empty if one is for all.
    """

    name: str
    uses: str
    limit: float
    otherwise: Any
    limits: Mapping[int, float] = field(default_factory=dict)

    needs_probabilities = True

    def __call__(self, scored: Scored) -> Scored:
        """The rows after the rule."""
        import numpy as np

        scores = _scores(self, scored, self.uses)
        limits = np.full(len(scores), self.limit)
        if self.limits:
            limits = np.array([self.limits.get(i, self.limit) for i in _best(scored).tolist()])
        return scored.withheld(
            scores < limits - ROUNDING,
            self.otherwise,
            lambda i: f"{self.name}: {self.uses} {scores[i]:.3f} is below {limits[i]:.3f}",
        )


@dataclass(frozen=True, slots=True)
class Beyond:
    """Withholds what is more novel than a limit."""

    limit: float
    otherwise: Any

    needs_probabilities = False

    def __call__(self, scored: Scored) -> Scored:
        """The rows after the rule."""
        novelty = scored.novelty
        assert novelty is not None  # what the limit was found with gives it for each row
        return scored.withheld(
            novelty > self.limit + ROUNDING * max(1.0, abs(self.limit)),
            self.otherwise,
            lambda i: f"Novelty: {novelty[i]:.2f} is above {self.limit:.2f}",
        )


@dataclass(frozen=True, slots=True)
class Sets:
    """Adds the labels whose 1 - probability is within a limit, the likeliest first."""

    limit: float

    needs_probabilities = True

    def __call__(self, scored: Scored) -> Scored:
        """The rows after the rule."""
        import numpy as np

        given = scored.probabilities
        assert given is not None
        order = np.argsort(-given, axis=1, kind="stable")
        # As the limit was found, for 1 - (1 - p) is not always p.
        sizes = np.maximum((1 - given <= self.limit + ROUNDING).sum(axis=1), 1)
        sets = [
            [scored.classes[i] for i in row[:size]]
            for row, size in zip(order.tolist(), sizes.tolist(), strict=True)
        ]
        return replace(scored, columns={**scored.columns, "prediction_set": sets})


def _check_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InvalidOption(name, value, "a share between 0 and 1")


def _check_uses(name: str, value: Any) -> None:
    if value not in USES:
        raise InvalidOption(name, value, " or ".join(map(repr, USES)))


def _right(policy: Any, held_out: HeldOut) -> Array:
    if held_out.right is None:
        raise ConfigError(
            f"{policy!r} is about right answers, and the held-out rows had no labels. Run salver "
            "calibrate with --label COLUMN."
        )
    return held_out.right


def _refuse_other_predictions(policy: Any, scored: Scored, best: Array) -> None:
    own = scored.columns.get("prediction")
    if own is not None and any(scored.classes[i] != p for i, p in zip(best, own, strict=True)):
        raise ConfigError(
            f"{policy!r} is about each class that is answered, and this model does not always "
            "answer its likeliest class. Leave per_class out."
        )


def _scores(policy: Any, scored: Scored, uses: str) -> Array:
    assert scored.probabilities is not None
    if uses == "probability":
        found: Array = scored.probabilities.max(axis=1, initial=0.0)
        return found
    if scored.confidence is None:
        raise ConfigError(
            f"{policy!r} uses a calibrated confidence, and this model has none; uses='probability' "
            "takes its largest probability."
        )
    return scored.confidence


def _best(scored: Scored) -> Array:
    import numpy as np

    assert scored.probabilities is not None
    return np.asarray(scored.probabilities.argmax(axis=1))
