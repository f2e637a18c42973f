"""The report on a model's confidence for a terminal: plain text, at most 110 columns wide.

Its columns, sentences and numbers as text are those of `salver.calibration.page`, too. This module
does not know how anything was fitted or judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salver.calibration.results import Kept, Report, Strange
from salver.reports.terminal import NONE, Cells, lines_of, percent, plain, share_cells, wrapped
from salver.trust.calibration import Attempt
from salver.trust.quality import Estimate

OWN = "identity"  # the calibrator that changes nothing
IN_USE = "in use"  # verdict on the calibrator that was chosen
MADE_OF = {
    "layers": "the model's hidden states",
    "table": "the columns of the input",
    "words": "the words of the texts",
}


def text(report: Report) -> str:
    """The report as plain text."""
    blocks = [
        wrapped([introduction(report)]),
        lines_of(honesty(report)),
        wrapped([said_of_honesty(report)]),
        lines_of(attempts(report)),
        wrapped([plain(report.note)] if report.note else []),
        lines_of(policies(report)),
        wrapped(said_of_policies(report)),
        lines_of(novelties(report)),
        wrapped(said_of_novelty(report)),
        wrapped([conclusion(report)]),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def introduction(report: Report) -> str:
    """What was asked of which model, and on which rows."""
    variant = f", variant {report.variant}" if report.variant else ""
    digest = "" if report.digest in report.target else f", digest {report.digest[:12]}"
    failed = f"; it failed at {report.failed:,} more" if report.failed else ""
    unfit, training_unfit = _unfit(report.unfit), _unfit(report.training_unfit)
    labels = (
        f"True classes stand in {report.label!r}."
        if report.label
        else "Their true classes are not known."
    )
    trained = (
        f"{report.training_rows:,} rows of training were asked, too, for the novelty score"
        f"{training_unfit}."
        if report.training_rows
        else "No rows of training were given, so the novelty score is fitted on the held-out ones."
    )
    return plain(
        f"{report.target} (deployment {report.deployment}, checkpoint {report.checkpoint}{variant}"
        f"{digest}) answered {report.rows:,} held-out rows{failed}{unfit}. {labels} {trained}"
    )


def honesty(report: Report) -> Cells | None:
    """How honest the model's own probabilities are, and the calibrated ones."""
    before, after = report.before, report.after
    if before is None:
        return None
    names = ("calibration error", "Brier score", "log loss, nats", "accuracy")
    found = [before.calibration_error, before.brier, before.log_loss, before.accuracy]
    rows = [[name, *_interval(one)] for name, one in zip(names, found, strict=True)]
    head = ["before", "95% interval"]
    if after is not None and report.calibrator != OWN:
        head += ["after", "95% interval"]
        calibrated = [after.calibration_error, after.brier, after.log_loss, after.accuracy]
        rows = [[*row, *_interval(one)] for row, one in zip(rows, calibrated, strict=True)]
    return Cells("honesty", head, rows)


def attempts(report: Report) -> Cells | None:
    """What each calibrator does to rows that it was not fitted on."""
    if not report.attempts:
        return None
    head = ["gain, nats", "99% interval", "error before", "error after", "verdict"]
    return Cells("calibrator", head, [_attempt(report, one) for one in report.attempts])


def said_of_honesty(report: Report) -> str:
    """How to read it, or why there is nothing to read."""
    if not report.calibrator:
        return (
            "The model gives no probabilities that say how sure it is, so it has no confidence to "
            "judge or to calibrate."
        )
    if report.before is None:
        return (
            "The rows have no true classes (--label), so nothing is known of how honest its "
            "confidence is, and its probabilities stay as they are."
        )
    after = (
        "After: by calibrators that were not fitted on the row that they are judged by."
        if report.calibrator != OWN
        else "As nothing is calibrated, there are no figures after it."
    )
    return (
        "calibration error: how far confidence is from the share of right answers; chance alone "
        f"lifts it, the more the fewer the rows. {after}"
    )


def policies(report: Report) -> Cells | None:
    """What each policy does to rows that its limits were not chosen on."""
    if not report.policies:
        return None
    is_labelled = bool(report.label)
    has_sets = any(one.sets for one in report.policies)
    head = ["answered", "95% interval"]
    head += ["right", "95% interval", "right of given"] if is_labelled else []
    head += ["in the set", "95% interval", "set size"] if has_sets else []
    rows = [
        [f"{number}. {_named(one)}", *_policy(one, is_labelled, has_sets)]
        for number, one in enumerate(report.policies, 1)
    ]
    return Cells("policy", head, rows)


def said_of_policies(report: Report) -> list[str]:
    """How to read it, and which of them promise what cannot be kept."""
    if not report.policies:
        why = (
            "the model gives no probabilities to compare others by"
            if not report.calibrator
            else "the rows have no true classes to compare others by"
        )
        return [f"No policy was judged: the deployment has none, and {why}."]
    said = [
        "Limits come from all rows but a part and are judged on that part, one part after the other. "
        "What stands in parentheses is no policy of the deployment, and there to compare with."
    ]
    if not report.label:
        said.append(
            "How many of the answers are right is not known without true classes (--label)."
        )
    troubles = [
        f"{number}. cannot be promised on these rows: {plain(one.trouble)}"
        for number, one in enumerate(report.policies, 1)
        if one.trouble
    ]
    if any(one.trouble for one in report.policies if one.is_own):
        troubles.append("A deployment with a policy that cannot keep its promise does not load.")
    return said + troubles


def _named(one: Kept) -> str:
    return plain(one.name) if one.is_own else f"({plain(one.name)})"


def novelties(report: Report) -> Cells | None:
    """How the scores of held-out rows and of rows of other kinds are spread."""
    given = [("held-out rows", report.novelties)]
    given += [(one.name, one.novelties) for one in report.strange]
    rows = [[plain(name), *_spread(values)] for name, values in given if len(values)]
    head = ["rows", "median", "95% below", "99% below", "largest", "above 1"]
    return Cells("novelty", head, rows) if rows else None


def said_of_novelty(report: Report) -> list[str]:
    """What the score is made of, and how well it tells rows of other kinds from held-out ones."""
    said = (
        [
            f"The novelty score is made of {made_of(report)}; 1 is the 95% quantile of ordinary "
            "rows, as unseen rows score."
        ]
        if report.novelty
        else ["There is no novelty score: the model gives no ground for one."]
    )
    if not report.strange:
        return [
            *said,
            "Random strings were not asked, for the input is not of texts alone: how much of what is "
            "meaningless would be withheld is not known. Give rows of other kinds with --against.",
        ]
    told = [_strange(one) for one in report.strange]
    has_areas = any(
        one.novelty is not None or one.probability is not None for one in report.strange
    )
    return [*said, *told, *(["AUROC: 1 tells all apart, 0.5 none."] if has_areas else [])]


def made_of(report: Report) -> str:
    """What the novelty score looks at."""
    return MADE_OF.get(report.novelty, plain(report.novelty))


def called(calibrator: str) -> str:
    """The name of a calibrator in words."""
    return plain(calibrator.replace("_", " "))


def conclusion(report: Report) -> str:
    """What is in use from now on."""
    if not report.calibrator:
        confidence = "it has no confidence"
    elif report.calibrator == OWN:
        confidence = "its confidence is its own probability"
    else:
        confidence = f"its confidence is calibrated by {called(report.calibrator)}"
    novelty = (
        f"novelty is from {made_of(report)}" if report.novelty else "there is no novelty score"
    )
    own = [(number, one) for number, one in enumerate(report.policies, 1) if one.is_own]
    troubled = [str(number) for number, one in own if one.trouble]
    but = f", but not {', '.join(troubled)}, which cannot be promised" if troubled else ""
    return plain(
        f"In use from now on for {report.deployment}: {confidence}, {novelty}, and policies take "
        f"their limits from these {report.rows:,} rows{but}."
    )


def _unfit(rows: int) -> str:
    return f"; {rows:,} more do not fit its input" if rows else ""


def _strange(found: Strange) -> str:
    name = "random strings" if found.name == "random strings" else f"rows of {plain(found.name)}"
    areas = [
        f"{percent(found.withheld, 1)} of {found.rows:,} {name} are withheld by the policies of the "
        "deployment, all together."
    ]
    if found.novelty is not None:
        areas.append(f"Novelty tells them from held-out rows with an AUROC of {found.novelty:.3f}")
        if found.probability is not None:
            areas[-1] += f", the largest probability with {found.probability:.3f}"
    elif found.probability is not None:
        areas.append(
            "The largest probability tells them from held-out rows with an AUROC of "
            f"{found.probability:.3f}"
        )
    else:
        return areas[0]
    return f"{' '.join(areas)}."


def _attempt(report: Report, one: Attempt) -> list[str]:
    gain, before, after = one.log_loss, one.before, one.after
    verdict = "helps" if one.is_certain else "not certain to help"
    return [
        called(one.name),
        f"{gain.value:.3f}",
        f"{gain.low:.3f} to {gain.high:.3f}",
        f"{before.calibration_error.value:.3f}",
        f"{after.calibration_error.value:.3f}",
        IN_USE if one.name == report.calibrator else verdict,
    ]


def _policy(one: Kept, is_labelled: bool, has_sets: bool) -> list[str]:
    cells = share_cells(one.answered)
    if is_labelled:
        given = f"{one.right:,} of {one.given:,}" if one.answered else NONE
        cells += [*share_cells(one.precision), given]
    if has_sets:
        size = NONE if one.set_size is None else f"{one.set_size:.2f}"
        cells += [*share_cells(one.sets), size]
    return cells


def _interval(one: Estimate) -> list[str]:
    return [f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}"]


def _spread(values: Sequence[float]) -> list[str]:
    found = np.asarray(values, dtype=np.float64)
    middle, many, most = np.quantile(found, (0.5, 0.95, 0.99), method="inverted_cdf")
    numbers = (middle, many, most, found.max())
    shown = [f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in numbers]
    return [f"{len(found):,}", *shown, percent(float((found > 1).mean()), 1)]
