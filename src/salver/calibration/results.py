"""What was found out about a model's confidence. Plain values: no file, no format, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salver.trust.calibration import Attempt
from salver.trust.quality import Bin, Estimate, Honesty


@dataclass(frozen=True, slots=True)
class Kept:
    """What a policy does to rows that its limits were not chosen on (cross-validation).

    Attributes:
        name: The policy as it is written.
        trouble: Why it cannot promise anything on these rows; empty if it can.
        answered: Share of rows that get the model's own answer.
        precision: Share of right ones among these; null without labels.
        right: How many of them are right.
        given: How many get an answer.
        sets: Share of rows whose set of labels holds the true one; null for policies without sets.
        set_size: Mean number of labels in a set; null likewise.
        is_own: Whether the deployment has it; others are there to compare with.
    """

    name: str
    trouble: str = ""
    answered: Estimate | None = None
    precision: Estimate | None = None
    right: int = 0
    given: int = 0
    sets: Estimate | None = None
    set_size: float | None = None
    is_own: bool = True


@dataclass(frozen=True, slots=True)
class Strange:
    """How well rows of another kind are told from held-out rows.

    Attributes:
        name: What they are: random strings, or the file that they come from.
        rows: That were asked.
        withheld: Share of them that the policies withhold, all policies together.
        novelty: Area under the ROC curve of the novelty score; 1 tells all apart, 0.5 none.
        probability: The same of 1 less the largest probability; null for a model without any.
        novelties: float, sorted: their novelty scores; empty if there is no score.
    """

    name: str
    rows: int
    withheld: float
    novelty: float | None
    probability: float | None
    novelties: Sequence[float]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    Attributes:
        target: As pinned.
        deployment: Name.
        checkpoint: Source of the model, for people.
        digest: Of its checkpoint.
        variant: Name of the variant that was calibrated; empty for the original.
        rows: Held-out rows that the model answered.
        failed: Rows that it did not answer.
        unfit: Rows of the file of held-out rows that do not fit the input, and were not asked.
        training_rows: Rows that the novelty score was fitted on; 0 if these were the held-out ones.
        training_unfit: The same as `unfit`, of the file of these rows.
        label: Column with the true classes; empty if there is none.
        calibrator: Name of the one in use; empty for a model without probabilities.
        note: Why it is that one.
        attempts: What was tried, with cross-validated figures.
        before: Of the model's own probabilities; null without labels.
        after: Of the calibrated ones, cross-validated; null without labels.
        reliability_before: Bins of the model's largest probability.
        reliability_after: The same of the calibrated confidence.
        confidences: float, sorted: the calibrated confidence of each held-out row.
        rights: Whether the model was right, in the same order.
        policies: Those of the deployment, all of them together, and others to compare them with.
        novelty: What the novelty score is made of; empty if there is none.
        novelties: Of held-out rows, as unseen rows would score.
        strange: Rows of other kinds that were asked: random strings if the input is text alone, and
            what the user gave.
        made_at: ISO 8601 time in UTC.
    """

    target: str
    deployment: str
    checkpoint: str
    digest: str
    variant: str
    rows: int
    failed: int
    unfit: int
    training_rows: int
    training_unfit: int
    label: str
    calibrator: str
    note: str
    attempts: tuple[Attempt, ...]
    before: Honesty | None
    after: Honesty | None
    reliability_before: Sequence[Bin]
    reliability_after: Sequence[Bin]
    confidences: Sequence[float]
    rights: Sequence[bool]
    policies: tuple[Kept, ...]
    novelty: str
    novelties: Sequence[float]
    strange: tuple[Strange, ...]
    made_at: str
