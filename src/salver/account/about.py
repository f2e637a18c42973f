"""What a version of a deployment promised, and which rows it is compared with.

Both stand in the account beside its rows, so that a report needs neither the model nor its cache. It
does not know how the account is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from salver.account.records import class_text
from salver.account.rows import Rows, numbers, objects
from salver.definition import Deployment
from salver.engine.loading import CALIBRATION, Resolved
from salver.outputs import PREDICTION, Array
from salver.policies import ConformalSet, Coverage, HeldOut, Novelty, Policy, Precision, kept
from salver.trust.fitted import Fitted

MAX_REFERENCE = 20_000  # rows; more tell no more


@dataclass(frozen=True, slots=True)
class Stated:
    """A promise, as plain values.

    Attributes:
        policy: As it is written in the options.
        about: "precision", "coverage", "sets" or "novelty".
        share: That is promised, between 0 and 1.
        per_class: Whether it is one for each class that is answered.
        held_out: Rows that its limit was chosen on, those that reached it; 0 if not known.
    """

    policy: str
    about: str
    share: float
    per_class: bool = False
    held_out: int = 0

    @property
    def is_least(self) -> bool:
        """Whether the share is the least, not the largest."""
        return self.about != "novelty"

    @property
    def is_conformal(self) -> bool:
        """Whether it holds on average over held-out rows, not for these with some confidence."""
        return self.about in ("sets", "novelty")

    @property
    def name(self) -> str:
        """Of the policy, as it stands in the reasons of its answers."""
        return self.policy.partition("(")[0]


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a version.

    Attributes:
        policies: As they are written in the options, in the order in which they decide.
        promises: Of these policies.
        classes: Of the model, as texts; empty if they are not known.
        reference: Held-out rows, as the same policies answer them; null without a calibration.
    """

    policies: tuple[str, ...]
    promises: tuple[Stated, ...]
    classes: tuple[str, ...]
    reference: Rows | None

    @staticmethod
    def of(
        policies: Sequence[Policy], held_out: HeldOut | None, lengths: Array | None = None
    ) -> About:
        """What policies promise, and what they make of held-out rows.

        Args:
            policies: Of the deployment.
            held_out: The m rows that the model was calibrated on; null if it was not.
            lengths: float of shape (m,): characters of text of these rows; null if not known.
        """
        reference = None if held_out is None else _reference(policies, held_out, lengths)
        before: set[str] = set()
        promises = []
        for one in policies:
            if (stated := _stated(one)) is not None:
                promises.append(replace(stated, held_out=_reached(reference, before)))
            before.add(type(one).__name__)
        classes = () if held_out is None else _classes(held_out)
        if reference is not None:
            reference = reference.take(slice(None, None, -(-len(reference) // MAX_REFERENCE)))
        return About(tuple(map(repr, policies)), tuple(promises), classes, reference)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = self.reference
        return {
            "policies": list(self.policies),
            "promises": [
                [p.policy, p.about, p.share, p.per_class, p.held_out] for p in self.promises
            ],
            "classes": list(self.classes),
            "reference": None if rows is None else _as_json(rows),
        }

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> About:
        """The inverse of `as_json`."""
        rows = given["reference"]
        return About(
            tuple(given["policies"]),
            tuple(Stated(*one) for one in given["promises"]),
            tuple(given["classes"]),
            None if rows is None else _from_json(rows),
        )


NOTHING = About((), (), (), None)


def about_deployment(deployment: Deployment, resolved: Resolved) -> About:
    """What a deployment promises, and its held-out rows.

    Args:
        deployment: With its options in force.
        resolved: Its checkpoints, with its calibration among them if it has one.

    Raises:
        CheckpointError: If the calibration cannot be read.
    """
    given = resolved.get(CALIBRATION)
    if given is None:
        return About.of(deployment.policies, None)
    fitted = Fitted.load(Path(given["path"]))
    return About.of(deployment.policies, fitted.held_out, fitted.lengths)


def _stated(policy: Policy) -> Stated | None:
    if isinstance(policy, Precision):
        return Stated(repr(policy), "precision", policy.precision, policy.per_class)
    if isinstance(policy, Coverage):
        return Stated(repr(policy), "coverage", policy.coverage)
    if isinstance(policy, ConformalSet):
        return Stated(repr(policy), "sets", policy.coverage)
    if isinstance(policy, Novelty):
        return Stated(repr(policy), "novelty", policy.share)
    return None


def _reached(reference: Rows | None, before: set[str]) -> int:
    """How many held-out rows no policy before has withheld."""
    if reference is None:
        return 0
    return sum(name not in before for name in reference.withheld_by.tolist())


def _classes(held_out: HeldOut) -> tuple[str, ...]:
    return tuple(class_text(one) or str(one) for one in held_out.scored.classes)


def _reference(policies: Sequence[Policy], held_out: HeldOut, lengths: Array | None) -> Rows:
    scored, n = held_out.scored, len(held_out)
    own_answer = scored.columns.get(PREDICTION, [None] * n)
    withheld_by = objects([None] * n)
    try:
        rules = kept(policies, held_out)
        for policy, rule in zip(policies, rules, strict=True):
            before, scored = scored.abstained, rule(scored)
            withheld_by[scored.abstained & ~before] = type(policy).__name__
        answers = scored.columns.get(PREDICTION, [None] * n)
    except Exception:  # noqa: BLE001 - a policy of the user's own may want what is not kept
        answers, withheld_by = own_answer, objects([None] * n)
    given = held_out.scored.probabilities
    classes = _classes(held_out)
    best = [] if given is None or not classes else given.argmax(axis=1).tolist()
    confidence = held_out.scored.confidence
    if confidence is None and given is not None:
        confidence = given.max(axis=1)
    unknown = np.full(n, np.nan)
    novelty = held_out.scored.novelty
    return Rows(
        at=np.zeros(n),
        prediction=objects([class_text(v) for v in answers]),
        own=objects([classes[i] for i in best] or [None] * n),
        confidence=unknown if confidence is None else confidence,
        novelty=unknown if novelty is None else novelty,
        withheld_by=withheld_by,
        failed=np.zeros(n, dtype=bool),
        length=unknown if lengths is None else lengths,
        label=objects(_labels(held_out, classes, own_answer)),
        covered=unknown,
    )


def _labels(held_out: HeldOut, classes: Sequence[str], answers: Sequence[Any]) -> list[str | None]:
    if held_out.labels is not None and classes:
        # A class that the model does not have is known to be none of its own, whatever it is.
        return [classes[i] if i >= 0 else "" for i in held_out.labels.tolist()]
    if held_out.right is None:
        return [None] * len(answers)
    return [class_text(a) if r else "" for a, r in zip(answers, held_out.right, strict=True)]


def _as_json(rows: Rows) -> dict[str, list[Any]]:
    def plain(values: Array) -> list[Any]:
        return [None if np.isnan(v) else v for v in values.tolist()]

    return {
        "prediction": rows.prediction.tolist(),
        "own": rows.own.tolist(),
        "confidence": plain(rows.confidence),
        "novelty": plain(rows.novelty),
        "withheld_by": rows.withheld_by.tolist(),
        "length": plain(rows.length),
        "label": rows.label.tolist(),
    }


def _from_json(given: Mapping[str, Sequence[Any]]) -> Rows:
    n = len(given["prediction"])
    return Rows(
        at=np.zeros(n),
        prediction=objects(given["prediction"]),
        own=objects(given["own"]),
        confidence=numbers(given["confidence"]),
        novelty=numbers(given["novelty"]),
        withheld_by=objects(given["withheld_by"]),
        failed=np.zeros(n, dtype=bool),
        length=numbers(given["length"]),
        label=objects(given["label"]),
        covered=np.full(n, np.nan),
    )
