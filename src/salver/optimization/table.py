"""The report for a terminal: fixed-width plain text, at most 110 columns wide.

Its columns, sentences and numbers as text are those of `salver.optimization.page`, too. This module
does not know how anything was measured, nor by what rule a candidate was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from textwrap import shorten
from typing import NamedTuple

from salver.optimization.fidelity import SURE, Fidelity, Quality
from salver.optimization.results import Candidate, Report, Speed
from salver.reports.terminal import NONE, Cells, aligned, lines_of, percent, plain, wrapped

ORIGINAL = "original"
NOISY = 1.2  # ratio of the original to itself from which on nothing is worth much
_REASON = 420  # letters of a reason that a terminal shows; the page shows all


class Column(NamedTuple):
    """One number of a candidate: what it is called, the same in two short lines, and its text."""

    name: str
    head: tuple[str, str]
    cell: Callable[[Candidate], str]


def text(report: Report) -> str:
    """The report as plain text."""
    head = [("", "model"), *(column.head for column in COLUMNS), ("", "verdict")]
    rows = [
        [plain(one.name), *(column.cell(one) for column in COLUMNS), verdict(report, one)]
        for one in lines(report)
    ]
    reasons = [
        f"{name}: {what}: {shorten(why, _REASON, placeholder=' ...')}"
        for name, what, why in objections(report)
    ]
    blocks = [
        wrapped([f"{introduction(report)} {gate(report)}"]),
        aligned(head, rows, left=(0, 1, len(head) - 1)),
        wrapped([_LEGEND]),
        _quality(report),
        wrapped(reasons, indent="  "),
        wrapped(remarks(report)),
        wrapped([conclusion(report)]),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def lines(report: Report) -> list[Candidate]:
    """What the table has a line for: the original, against itself, and each candidate."""
    original = Candidate(
        ORIGINAL, speed=report.original, single_ratio=1, batched_ratio=1, fidelity=report.steady
    )
    return [original, *report.candidates]


def verdict(report: Report, one: Candidate) -> str:
    """What became of a line of the table; empty for an original that was replaced."""
    if one.trouble:
        return "failed"
    if one.name == (report.chosen or report.stays or ORIGINAL):
        return "in use"
    if one.name == ORIGINAL:
        return ""
    return "passes" if one.passed else "refused"


def introduction(report: Report) -> str:
    """What was measured, and on which rows."""
    labels = f", whose true classes stand in {report.label!r}" if report.label else ""
    unfit = f"; {report.unfit:,} more do not fit the input" if report.unfit else ""
    digest = "" if report.digest in report.target else f", digest {report.digest[:12]}"
    calibrated = (
        f"{report.calibration_rows:,} other rows were for the calibration of int8."
        if report.calibration_rows
        else "None were used for calibration."
    )
    return plain(
        f"{report.target} (deployment {report.deployment}, checkpoint {report.checkpoint}"
        f"{digest}) answers {_digits(report.original.single)} rows/s one at a time and "
        f"{_digits(report.original.batched)} rows/s in batches of {report.batch_size}. Candidates "
        f"were judged on {report.gate_rows:,} rows{labels}{unfit}. {calibrated}"
    )


def gate(report: Report) -> str:
    """The gate in words."""
    said = "; ".join(f"{what}: {limit}" for what, limit in limits(report))
    return f"The gate {report.gate.name!r} allows: {said}."


def limits(report: Report) -> list[tuple[str, str]]:
    """What the gate looks at, and how much of it is allowed."""
    of = report.gate
    f1 = [("macro F1", "not below the original's 95% interval")] if report.label else []
    return [
        ("mean difference", f"up to {of.mean:g}"),
        ("99th percentile of the difference", f"up to {of.p99:g}"),
        ("other decisions", f"up to {of.decisions * 100:g}%"),
        (f"flips where the margin was above {SURE:g}", f"{of.sure_flips or 'none'}"),
        ("rows that fail in one of both only", "none"),
        *f1,
    ]


def qualities(report: Report) -> list[tuple[str, Quality]]:
    """How right the original and each candidate are, by name; none where no labels are known."""
    judged = [one for one in lines(report) if one.fidelity and one.fidelity.quality]
    found = [(plain(one.name), one.fidelity.quality) for one in judged if one.fidelity]
    if judged and judged[0].name != ORIGINAL and judged[0].fidelity:
        found.insert(0, (ORIGINAL, judged[0].fidelity.reference))
    return [(name, quality) for name, quality in found if quality]


def quality_cells(quality: Quality) -> list[str]:
    """Texts for the columns `QUALITY`."""
    low, high = quality.f1_interval
    return [
        f"{quality.accuracy:.3f}",
        f"{quality.macro_f1:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{quality.calibration_error:.3f}",
    ]


def objections(report: Report) -> list[tuple[str, str, str]]:
    """(name, verdict, why) of each candidate that failed or was refused."""
    return [
        (plain(one.name), verdict(report, one), plain(one.trouble or "; ".join(one.refused)))
        for one in report.candidates
        if not one.passed
    ]


def remarks(report: Report) -> list[str]:
    """How far noise reaches, and whether answers depend on how rows were put together."""
    busy = (
        ""
        if 1 / NOISY < report.control < NOISY
        else (" The machine was busy with other things: run it again when it is not.")
    )
    said = [
        f"The original against itself, measured in the same way: {_ratio(report.control)}, so "
        f"differences below that are noise.{busy}",
        _dependence("The original's answers", report.steady),
    ]
    if report.noisy:
        said.append(
            "The machine was busy with other things while these were measured: "
            f"{', '.join(map(plain, report.noisy))}. The ratios there say little: run it again when "
            "it is not."
        )
    chosen = _chosen(report)
    if chosen and chosen.fidelity:
        said.append(_dependence(f"The answers of {plain(chosen.name)}", chosen.fidelity))
    return said


def conclusion(report: Report) -> str:
    """What is used from now on, or why the original stays."""
    if chosen := _chosen(report):
        return plain(f"From now on {report.deployment} uses {_with_ratios(chosen)}.")
    passed = [one for one in report.candidates if one.passed]
    if not report.candidates:
        why = "there was no candidate to try"
    elif not passed:
        why = f"no candidate passes the gate ({len(report.candidates)} tried)"
    else:
        why = "what passes gains too little: " + "; ".join(map(_with_ratios, passed))
    stays = f"{report.stays}, which an earlier run chose and this one did not measure,"
    return plain(f"{stays if report.stays else 'The original'} stays in use: {why}.")


def _chosen(report: Report) -> Candidate | None:
    return next((one for one in report.candidates if one.name == report.chosen), None)


def _with_ratios(one: Candidate) -> str:
    return (
        f"{one.name}, {_ratio(one.batched_ratio)} the rows/s in batches and "
        f"{_ratio(one.single_ratio)} one row at a time"
    )


def _dependence(whose: str, found: Fidelity) -> str:
    if not found.mates and not found.mates_flips:
        return f"{whose} do not depend on batch size, batch mates or padding."
    labels = f"{found.mates_flips} of {found.rows:,} labels" if found.mates_flips else "no label"
    return (
        f"{whose} depend on batch size, batch mates or padding: by up to {_small(found.mates)}, "
        f"which changes {labels}."
    )


def _ratio(value: float) -> str:
    return f"{value:.2f}x"


def _digits(value: float) -> str:
    """1,234, 123, 12.3, 1.23."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _small(value: float) -> str:
    """0.0123, 1.2e-5, 0."""
    if value == 0 or value >= 1:
        return f"{value:.3g}"
    return f"{value:.4f}" if value >= 1e-3 else f"{value:.1e}".replace("e-0", "e-")


def _speed(show: Callable[[Candidate, Speed], str]) -> Callable[[Candidate], str]:
    return lambda one: show(one, one.speed) if one.speed else NONE


def _fidelity(show: Callable[[Fidelity], str]) -> Callable[[Candidate], str]:
    return lambda one: show(one.fidelity) if one.fidelity else NONE


COLUMNS = (
    Column("precision", ("", "in"), lambda one: plain(one.precision) or NONE),
    Column("one row", ("one", "row"), _speed(lambda one, _: _ratio(one.single_ratio))),
    Column("in batches", ("in", "batch"), _speed(lambda one, _: _ratio(one.batched_ratio))),
    Column("p50, ms", ("p50", "ms"), _speed(lambda _, speed: _digits(speed.p50_ms))),
    Column("load, s", ("load", "s"), _speed(lambda _, speed: _digits(speed.load_s))),
    Column("memory, MB", ("RAM", "MB"), _speed(lambda _, speed: f"{speed.resident_mb:,.0f}")),
    Column("same label", ("label", "same"), _fidelity(lambda found: percent(found.agreement))),
    Column("mean dp", ("mean", "dp"), _fidelity(lambda found: _small(found.mean))),
    Column("p99 dp", ("p99", "dp"), _fidelity(lambda found: _small(found.p99))),
    Column("sure flips", ("sure", "flips"), _fidelity(lambda found: f"{found.sure_flips}")),
    Column(
        "decided otherwise",
        ("other", "answer"),
        _fidelity(lambda found: percent(found.decisions)),
    ),
    Column("batch mates", ("batch", "mates"), _fidelity(lambda found: _small(found.mates))),
)
QUALITY = ("accuracy", "macro F1", "95% interval", "calibration error")
_LEGEND = (
    "one row, in batch: rows/s over the original's. dp: difference of probabilities. sure flips: "
    f"another label where the margin was above {SURE:g}. batch mates: how far an answer moves with "
    "the rows beside it. The first line is the original against itself."
)


def _quality(report: Report) -> list[str]:
    rows = [[name, *quality_cells(one)] for name, one in qualities(report)]
    return lines_of(Cells("quality", QUALITY, rows)) if rows else []
