"""What the live account says: figures for people and for alarms. Plain values.

It does not know how they were found, nor how they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salver.trust.quality import Bin, Estimate


@dataclass(frozen=True, slots=True)
class Observed:
    """A share that was counted.

    Attributes:
        hits: Rows of which it is true.
        of: Rows that were looked at.
        share: `hits` of `of` with its 95 % interval (Clopper & Pearson 1934); null without rows.
    """

    hits: int
    of: int
    share: Estimate | None


@dataclass(frozen=True, slots=True)
class Held:
    """What became of one promise.

    Attributes:
        policy: As it is written in the options.
        about: "precision", "coverage", "sets" or "novelty".
        promised: The share that was promised, between 0 and 1.
        is_least: Whether that is the least share, not the largest.
        whole: Over all rows of the account.
        recent: Over the latest ones.
        is_broken: Whether either is certain to miss the promise.
        is_average: Whether it is kept on average over held-out rows, so that the share of one service
            may lie on either side of it for good.
        p_value: The less likely of both, if the promise is kept.
    """

    policy: str
    about: str
    promised: float
    is_least: bool
    whole: Observed
    recent: Observed
    is_broken: bool
    is_average: bool = False
    p_value: float = 1.0


@dataclass(frozen=True, slots=True)
class Drifted:
    """How far the latest rows are from the reference in one respect.

    Attributes:
        of: "classes", "confidence", "novelty" or "text length".
        psi: Population stability index, in nats.
        jensen_shannon: Distance, within 0 to 1.
        p_value: How likely the shares differ so much by chance.
        is_alarm: Whether they differ by more than chance, and by enough to matter.
        names: What is counted: classes, or ranges.
        reference: Share of each in the reference.
        recent: Share of each in the latest rows.
    """

    of: str
    psi: float
    jensen_shannon: float
    p_value: float
    is_alarm: bool
    names: Sequence[str]
    reference: Sequence[float]
    recent: Sequence[float]


@dataclass(frozen=True, slots=True)
class Honest:
    """How honest the confidence is, of labelled rows.

    Attributes:
        rows: Labelled rows that have a confidence.
        confidence: Mean confidence.
        right: Share of rows whose likeliest class is the true one.
        calibration_error: See `salver.trust.quality.calibration_error`.
        bins: Of a reliability diagram.
        reference_gap: Mean of confidence minus right in the reference; null if that has no labels.
        p_value: How likely the gap differs so much from the reference's by chance; null without one.
        is_alarm: Whether it differs by more than chance, and by enough to matter.
    """

    rows: int
    confidence: float
    right: float
    calibration_error: Estimate
    bins: Sequence[Bin]
    reference_gap: float | None
    p_value: float | None
    is_alarm: bool


@dataclass(frozen=True, slots=True)
class Window:
    """Neighbouring rows in time.

    Attributes:
        start: Of its first row, in seconds since 1970 (UTC).
        end: Of its last row.
        rows: Rows in it, failed ones among them.
        failed: Rows without a result.
        answered: Rows with the model's own answer, of those with a result.
        right: Right ones among labelled rows that were answered.
        novel: Rows with a result that were withheld as novel.
        confidence: Mean confidence; null if none is known.
        psi: Population stability index of what was answered against the reference; null without one.
        shares: Of each class that was answered, and of "(withheld)", of rows with a result.
    """

    start: float
    end: float
    rows: int
    failed: int
    answered: Observed
    right: Observed
    novel: Observed
    confidence: float | None
    psi: float | None
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that share a value of one column, against all others.

    Attributes:
        column: Its name; "text length" and "answer" are not columns of the input.
        value: The value, or a range of values, as text.
        right: Right ones among its labelled rows that were answered.
        others: The same share of all other rows; null without any.
        p_value: How likely it falls so far below the others by chance, corrected for the number of
            parts that were looked at.
        is_real: Whether that is unlikely enough to act on.
    """

    column: str
    value: str
    right: Observed
    others: float | None
    p_value: float
    is_real: bool


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at.

    Attributes:
        name: Stable, such as "precision" or "drift_classes".
        message: What was seen and what was promised or expected.
    """

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What is judged over and over while a service runs.

    Attributes:
        rows: Rows of the account that were looked at.
        labelled: Those whose true class is known.
        unknown_labels: Those of them with a class that the model does not have; never right.
        reference_rows: Rows that the latest ones are compared with; 0 if there is no reference.
        recent_rows: The latest rows that are compared.
        held: Promises, in the order of the policies.
        drifted: Respects in which rows are compared with the reference.
        honest: Of the latest labelled rows; null without any that have a confidence.
        alarms: Empty if all is as promised.
    """

    rows: int
    labelled: int
    unknown_labels: int
    reference_rows: int
    recent_rows: int
    held: Sequence[Held]
    drifted: Sequence[Drifted]
    honest: Honest | None
    alarms: Sequence[Alarm]


@dataclass(frozen=True, slots=True)
class Report:
    """All that `salver report` shows.

    Attributes:
        deployment: Who answered.
        version: Of all that decided the answers.
        policies: As they are written in the options, in force when the rows were answered; null if
            that could not be written down.
        store: Path of the account.
        start: Of the first row, in seconds since 1970 (UTC).
        end: Of the last row.
        known: Rows of this version that are on record, of which the latest are looked at.
        others: Rows of other versions, which are left out.
        reference: What the latest rows are compared with, in words; empty if nothing.
        precision: Right ones among the latest labelled rows that were answered.
        answered: Rows with the model's own answer, of those with a result.
        novel: Rows with a result that were withheld as novel.
        failed: Rows without a result.
        reasons: How many rows each policy withheld.
        findings: Promises, drift and alarms.
        windows: In the order of time.
        parts: The worst first.
        parts_seen: How many were looked at.
        with_inputs: Whether any row was kept with its input, so that columns can be looked at.
        made_at: ISO 8601 time in UTC.
    """

    deployment: str
    version: str
    policies: Sequence[str] | None
    store: str
    start: float
    end: float
    known: int
    others: int
    reference: str
    precision: Observed
    answered: Observed
    novel: Observed
    failed: int
    reasons: Mapping[str, int]
    findings: Findings
    windows: Sequence[Window]
    parts: Sequence[Part]
    parts_seen: int
    with_inputs: bool
    made_at: str
