"""The report as one HTML file: the numbers of the terminal's table, what they mean, and pictures.

This module does not know how anything was measured, nor where the file will lie.
"""

from __future__ import annotations

from html import escape

from salver.optimization.fidelity import SURE
from salver.optimization.pictures import COLOURS, pictures
from salver.optimization.results import Report
from salver.optimization.table import (
    COLUMNS,
    QUALITY,
    conclusion,
    introduction,
    limits,
    lines,
    objections,
    qualities,
    quality_cells,
    remarks,
    verdict,
)
from salver.reports.document import bullets, page, pairs, row, table
from salver.reports.terminal import plain

MEANINGS = {
    "verdict": "In use: answers from now on. Passes: within the gate, but not the one in use. "
    "Refused: beyond the gate. Failed: could not be made, or does not run here.",
    "precision": "The number format in which it computes. The original keeps its own.",
    "one row": "Rows per second over the original's, one row at a time: what a lone request feels. "
    "1.34x is a third more. It is the median of rounds that alternate with the original's.",
    "in batches": "The same in batches of rows of similar length: what offline jobs and busy "
    "servers feel.",
    "p50, ms": "Median time of a single row, in milliseconds.",
    "load, s": "Seconds from the start of a replica's process until it has answered its examples.",
    "memory, MB": "Memory of a replica's process after the rows, in millions of bytes.",
    "same label": "Share of rows with the original's label. It alone cannot tell good from bad: a "
    "tie that flips counts as much as a row of which the original was sure.",
    "mean dp": "Mean absolute difference of a probability from the original's. Other numbers than "
    "probabilities are compared in standard deviations of the original's.",
    "p99 dp": "In 99 of 100 rows no number differs by more than this.",
    "sure flips": f"Rows with another label although the original's margin, the difference of its "
    f"two largest probabilities, was above {SURE:g}.",
    "decided otherwise": "Share of rows for which clients get another answer, once the policy has "
    "decided.",
    "batch mates": "How far an answer moves with the rows that share its batch, with their number "
    "and with the padding they bring.",
}


def html(report: Report) -> str:
    """The report as a page that stands alone."""
    title = f"Faster variants of {plain(report.deployment)}"
    sections = [
        ("Measurements", _measurements(report) + bullets(remarks(report))),
        ("How right the answers are", _quality(report)),
        ("Why candidates were not taken", _objections(report)),
        ("Pictures", pictures(report)),
        (f"What the gate {report.gate.name!r} allows", pairs(limits(report))),
        ("What the columns mean", pairs(MEANINGS.items())),
        ("Machine and versions", pairs(report.machine.items())),
    ]
    footer = (
        f"Made by salver optimize at {report.made_at}. Digest of the checkpoint:\n{report.digest}."
    )
    return page(title, conclusion(report), introduction(report), sections, footer)


def _measurements(report: Report) -> str:
    rows = []
    for one in lines(report):
        what = verdict(report, one)
        mark = f' style="--mark: {COLOURS.get(what, "#888")}"' if what else ""
        cells = "".join(f"<td>{escape(column.cell(one))}</td>" for column in COLUMNS)
        rows.append(
            f'<tr{" class=used" if what == "in use" else ""}><th scope="row">'
            f'{escape(plain(one.name))}</th><td class="words verdict"{mark}>{what}</td>{cells}</tr>'
        )
    head = ["model", "verdict", *(column.name for column in COLUMNS)]
    return table(head, rows, words=("verdict",))


def _quality(report: Report) -> str:
    rows = [row(name, quality_cells(one)) for name, one in qualities(report)]
    if not rows:
        return ""
    said = (
        f"Held against the true classes in {escape(repr(report.label))}. Macro F1 is the unweighted "
        "mean of the F1 of the classes, its interval is over rows drawn again. The calibration error "
        "is how far the largest probability is from the share of right answers."
    )
    return f"<p>{said}</p>{table(['model', *QUALITY], rows)}"


def _objections(report: Report) -> str:
    return bullets(f"{name}: {what}: {why}" for name, what, why in objections(report))
