"""The live account for a terminal: plain text, at most 110 columns wide.

Its columns, sentences and numbers as text are those of `salver.monitoring.page`, too. This module
does not know how anything was counted or judged, nor where the account lies.
"""

from __future__ import annotations

from datetime import UTC, datetime

from salver.account.evaluation import LEAST
from salver.account.results import Drifted, Held, Observed, Part, Report, Window
from salver.reports.terminal import NONE, Cells, lines_of, percent, plain, share_cells, wrapped

NAMES = 12  # classes or ranges that have a line each
PARTS = 12  # parts that have a line each, unless more are real
UNKNOWN = "not known yet"
USUAL = 0.05  # p-value from which a share is as usual for a promise that is kept on average
ALARMING = ("broken", "alarm", "real")  # verdicts that a person should look at


def text(report: Report) -> str:
    """The report as plain text."""
    blocks = [
        wrapped([introduction(report)]),
        lines_of(promises(report)),
        wrapped(said_of_promises(report)),
        lines_of(answers(report)),
        wrapped(said_of_answers(report)),
        lines_of(honesty(report)),
        wrapped(said_of_honesty(report)),
        lines_of(drifts(report)),
        wrapped(said_of_drift(report)),
        *[lines_of(one) for one in shares(report)],
        lines_of(windows(report)),
        lines_of(parts(report)),
        wrapped(said_of_parts(report)),
        wrapped(conclusion(report), indent="  "),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def introduction(report: Report) -> str:
    """Who answered how many rows, when, and what they are compared with."""
    found = report.findings
    who = f"{report.deployment}, version {report.version[:12] or 'not known'}"
    others = (
        f" Left out, of other versions: {_many(report.others, 'row')}." if report.others else ""
    )
    if not found.rows:
        return plain(f"{who}: no rows are on record.{others}")
    unknown = (
        f"; {found.unknown_labels:,} of the labels name a class that the model does not have, and "
        "such rows are never right"
        if found.unknown_labels
        else ""
    )
    compared = (
        f"The latest {_many(found.recent_rows, 'row')} are compared with {report.reference}."
        if report.reference
        else "There is no reference to compare them with."
    )
    some = f"the latest {found.rows:,} of " if found.rows < report.known else ""
    return plain(
        f"{who}: {some}{_many(report.known, 'row')} from {minute(report.start)} to {minute(report.end)} "
        f"UTC. Labelled: {found.labelled:,}{unknown}. Failed: {report.failed:,}.{others} {compared}"
    )


def conclusion(report: Report) -> list[str]:
    """The alarms, or that there is none; and what cannot be known yet."""
    alarms = report.findings.alarms
    if alarms:
        said = [f"{_many(len(alarms), 'alarm')}:"]
        said += [f"- {plain(one.name)}: {plain(one.message)}" for one in alarms]
    else:
        known = _known(report)
        said = [
            f"No alarm: {'; '.join(known)}."
            if known
            else "No alarm, but nothing is known yet that could raise one."
        ]
    return [*said, *(f"Nothing is known yet of {one}." for one in _not_known(report))]


def promises(report: Report) -> Cells | None:
    """What was promised, and what was observed of all rows and of the latest."""
    if not report.findings.held:
        return None
    head = ["promised", "all rows", "95% interval", "of rows"]
    head += ["latest", "95% interval", "of rows", "verdict"]
    rows = [
        [f"{number}. {plain(one.policy)}", promised(one), *_seen(one.whole), *_seen(one.recent),
         verdict(one)]
        for number, one in enumerate(report.findings.held, 1)
    ]  # fmt: skip
    return Cells("promise", head, rows)


def said_of_promises(report: Report) -> list[str]:
    """What is missing in the table."""
    held = [one.policy for one in report.findings.held]
    if report.policies is None:
        return [
            "What this version promises is not on record, as it could not be written when it began to "
            "answer: see the log of the service."
        ]
    left = [plain(one) for one in report.policies if not any(h.startswith(one) for h in held)]
    if not report.policies:
        return ["The deployment has no policy, so nothing was promised."]
    if not left:
        return []
    return [
        f"Not judged: {'; '.join(left)}. A policy is judged if it promises something, once there "
        "are rows to judge it by."
    ]


def promised(one: Held) -> str:
    """The promise in words."""
    return f"at {'least' if one.is_least else 'most'} {one.promised * 100:g}%"


def verdict(one: Held) -> str:
    """Whether a promise holds: of enough rows, all and the latest, the share is as promised."""
    if one.is_broken:
        return "broken"
    seen = (one.whole, one.recent)
    # A share that is kept on average lies on either side of its promise for good.
    keeps = one.p_value >= USUAL if one.is_average else all(_keeps(one, each) for each in seen)
    return "holds" if one.whole.of >= LEAST and keeps else UNKNOWN


def answers(report: Report) -> Cells | None:
    """How many answers are right, how many rows got one, and how many are novel."""
    given = (
        ("right, of labelled answers", report.precision),
        ("answered", report.answered),
        ("withheld as novel", report.novel),
    )
    rows = [
        [name, *share_cells(one.share), f"{one.hits:,} of {one.of:,}"]
        for name, one in given
        if one.of
    ]
    return Cells("over all rows", ["share", "95% interval", "rows"], rows) if rows else None


def said_of_answers(report: Report) -> list[str]:
    """Which policies withheld how many rows."""
    if not report.answered.of:
        return []
    each = [f"{plain(name)} {count:,}" for name, count in report.reasons.items() if count]
    return [f"Withheld by: {', '.join(each)}." if each else "No answer was withheld."]


def honesty(report: Report) -> Cells | None:
    """How far the confidence of labelled rows is from the share that is right."""
    honest = report.findings.honest
    if honest is None:
        return None
    head = ["rows", "mean", "right", "gap", "reference gap", "chance"]
    head += ["calibration error", "95% interval", "verdict"]
    calm = UNKNOWN if honest.p_value is None else "no alarm"
    cells = [
        f"{honest.rows:,}",
        percent(honest.confidence, 1),
        percent(honest.right, 1),
        _gap(honest.confidence - honest.right),
        NONE if honest.reference_gap is None else _gap(honest.reference_gap),
        NONE if honest.p_value is None else chance(honest.p_value),
        f"{honest.calibration_error.value:.3f}",
        f"{honest.calibration_error.low:.3f} to {honest.calibration_error.high:.3f}",
        "alarm" if honest.is_alarm else calm,
    ]
    return Cells("confidence", head, [["labelled", *cells]])


def said_of_honesty(report: Report) -> list[str]:
    """How to read it."""
    if report.findings.honest is None:
        return []
    return [
        "right: rows whose likeliest class is the true one, withheld ones among them. gap: mean "
        "confidence minus right; above 0 the model is too sure of itself."
    ]


def drifts(report: Report) -> Cells | None:
    """How far the latest rows are from the reference in each respect."""
    found = report.findings.drifted
    if not found:
        return None
    rows = [
        [plain(one.of), f"{one.psi:.2f}", f"{one.jensen_shannon:.2f}", chance(one.p_value),
         "alarm" if one.is_alarm else "no alarm"]
        for one in found
    ]  # fmt: skip
    return Cells("drift of", ["PSI", "Jensen-Shannon", "chance", "verdict"], rows)


def said_of_drift(report: Report) -> list[str]:
    """How to read it."""
    if not report.findings.drifted:
        return []
    return [
        "PSI, the population stability index: below 0.1 alike, above 0.25 much has changed. chance: "
        "how likely shares differ so much if nothing has changed."
    ]


def shares(report: Report) -> list[Cells]:
    """Shares in the reference and in the latest rows: of classes, and of what raises an alarm."""
    return [
        Cells(
            plain(one.of),
            ["reference", "latest", "change, points"],
            [
                [name, percent(before, 1), percent(after, 1), f"{(after - before) * 100:+.1f}"]
                for name, before, after in shown(one)
            ],
        )
        for one in report.findings.drifted
        if one.of == "classes" or one.is_alarm
    ]


def shown(one: Drifted) -> list[tuple[str, float, float]]:
    """(name, share in the reference, share in the latest rows); the rarest names together."""
    given = list(zip(map(plain, one.names), one.reference, one.recent, strict=True))
    if len(given) <= NAMES:
        return given
    common = sorted(given, key=lambda each: -max(each[1], each[2]))[: NAMES - 1]
    kept = [each for each in given if each in common]
    rest = [each for each in given if each not in common]
    # Sums of shares may pass 1 by an error of rounding.
    before, after = (min(sum(one), 1.0) for one in zip(*((b, a) for _, b, a in rest), strict=True))
    return [*kept, (f"({len(rest):,} others)", before, after)]


def windows(report: Report) -> Cells | None:
    """What became of rows over time."""
    if not report.windows:
        return None
    head = ["rows", "failed", "answered", "right", "95% interval", "of labelled", "confidence"]
    rows = [[minute(one.start), *_window(one)] for one in report.windows]
    return Cells("from, UTC", [*head, "novel", "PSI"], rows)


def worst(report: Report) -> list[Part]:
    """The parts that have a line: the worst, and all that are real."""
    return list(report.parts[: max(PARTS, sum(one.is_real for one in report.parts))])


def parts(report: Report) -> Cells | None:
    """Where answers are wrong more often than elsewhere."""
    if not report.parts:
        return None
    rows = [
        [
            f"{plain(one.column)}: {plain(one.value)}",
            *_seen(one.right),
            NONE if one.others is None else percent(one.others, 1),
            chance(one.p_value),
            "real" if one.is_real else "may be chance",
        ]
        for one in worst(report)
    ]
    head = ["right", "95% interval", "of labelled", "others", "chance", "verdict"]
    return Cells("part", head, rows)


def said_of_parts(report: Report) -> list[str]:
    """How many were looked at and are real, and how to look at more."""
    if not report.precision.of:
        return []
    real = sum(one.is_real for one in report.parts)
    said = [
        f"Parts of the labelled answers that were looked at: {report.parts_seen:,}. Right less often "
        f"than all others beyond chance: {real or 'none'}."
    ]
    if left := len(report.parts) - len(worst(report)):
        said[0] += f" {left:,} that are better are not shown."
    if not report.with_inputs:
        said.append(
            "Rows are kept without their inputs, so only the length of texts and the answer could "
            "be looked at; record_inputs: true keeps them, so that columns can be looked at, too."
        )
    return said


def minute(at: float) -> str:
    """A time in UTC, to the minute.

    Args:
        at: Seconds since 1970.
    """
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def chance(p_value: float) -> str:
    """A p-value; what is smaller than can be shown is said to be."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _known(report: Report) -> list[str]:
    """What was looked at without an alarm."""
    found, said = report.findings, []
    verdicts = [verdict(one) for one in found.held]
    if kept := verdicts.count("holds"):
        said.append(f"{kept} of {_many(len(verdicts), 'promise')} hold{'s' if kept == 1 else ''}")
    if found.drifted:
        respects = ", ".join(plain(one.of) for one in found.drifted)
        said.append(f"no drift beyond chance that matters ({respects})")
    if found.honest is not None and found.honest.p_value is not None:
        said.append("no such change of how honest confidence is")
    return said


def _not_known(report: Report) -> list[str]:
    """What cannot be judged, and why."""
    found, said = report.findings, []
    if report.precision.of < LEAST:
        said.append(
            f"whether answers are right: labelled answers: {report.precision.of:,}, and {LEAST} are "
            "needed. salver feedback, or a POST to /feedback/, adds true classes"
        )
    elif found.honest is None:
        said.append("how honest confidence is: no labelled row has a confidence")
    unjudged = sum(verdict(one) == UNKNOWN for one in found.held)
    if unjudged:
        said.append(
            f"{_many(unjudged, 'promise')}: too few rows, or a miss that may be chance. The table "
            "says which"
        )
    if not report.reference:
        said.append(
            "drift: there are no held-out rows to compare with; salver calibrate keeps some"
        )
    elif not found.drifted:
        said.append(
            f"drift: rows: {found.recent_rows:,}, held-out rows: {found.reference_rows:,}, and "
            f"{LEAST} of each are needed"
        )
    return said


def _keeps(one: Held, seen: Observed) -> bool:
    if not seen.of:
        return False
    share = seen.hits / seen.of
    return share >= one.promised if one.is_least else share <= one.promised


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _gap(gap: float) -> str:
    return f"{gap:+.3f}"


def _seen(one: Observed) -> list[str]:
    return [*share_cells(one.share), f"{one.of:,}"]


def _window(one: Window) -> list[str]:
    return [
        f"{one.rows:,}",
        f"{one.failed:,}",
        share_cells(one.answered.share)[0],
        *_seen(one.right),
        NONE if one.confidence is None else percent(one.confidence, 1),
        share_cells(one.novel.share)[0],
        NONE if one.psi is None else f"{one.psi:.2f}",
    ]
