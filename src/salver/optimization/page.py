"""The report as one HTML file: the numbers of the terminal's table, what they mean, and pictures.

The file asks for nothing from elsewhere and runs no script. This module does not know how anything
was measured, nor where the file will lie.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    plain,
    qualities,
    quality_cells,
    remarks,
    verdict,
)

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
_CSS = """
:root { color-scheme: light dark; --ground: #fff; --text: #1c2024; --soft: #5d656d;
  --line: #d8dde2; --panel: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181b; --text: #e3e6e9;
  --soft: #9aa4ad; --line: #363c42; --panel: #1e2226; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; background: var(--ground);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p, dd, li, figcaption { max-width: 46rem; }
.conclusion { padding: .7rem 1rem; background: var(--panel); border-left: .25rem solid var(--soft);
  font-weight: 600; max-width: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal;
  overflow-wrap: normal; }
th:first-child, .words { text-align: left; }
tbody th { font-weight: 500; }
tr.used th, tr.used td { font-weight: 700; }
.verdict::before { content: ""; display: inline-block; width: .6em; height: .6em;
  margin-right: .4em; border-radius: 50%; background: var(--mark, transparent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1rem; margin: 0; }
dt { font-weight: 600; } dd { margin: 0; }
.pictures { columns: 2 26rem; column-gap: 2rem; }
figure { margin: 0 0 2rem; max-width: 34rem; break-inside: avoid; }
figcaption { color: var(--soft); font-size: .875rem; margin-top: .4rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, sans-serif !important; paint-order: stroke;
  stroke: var(--ground); stroke-width: 3px; stroke-linejoin: round; }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .875rem; }
@media (max-width: 40rem) { th:first-child { position: sticky; left: 0; white-space: normal;
    min-width: 7rem; background: var(--ground); }
  dl { display: block; } dt { margin-top: .5rem; } }
"""


def html(report: Report) -> str:
    """The report as a page that stands alone."""
    title = f"Faster variants of {plain(report.deployment)}"
    sections = [
        ("Measurements", _measurements(report) + _list(remarks(report))),
        ("How right the answers are", _quality(report)),
        ("Why candidates were not taken", _objections(report)),
        ("Pictures", pictures(report)),
        (f"What the gate {report.gate.name!r} allows", _pairs(limits(report))),
        ("What the columns mean", _pairs(MEANINGS.items())),
        ("Machine and versions", _pairs(report.machine.items())),
    ]
    body = "\n".join(
        f"<section><h2>{escape(head)}</h2>{text}</section>" for head, text in sections if text
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="conclusion">{escape(conclusion(report))}</p>
<p>{escape(introduction(report))}</p>
{body}
<footer>Made by salver optimize at {escape(report.made_at)}. Digest of the checkpoint:
{escape(report.digest)}.</footer>
</body>
</html>
"""


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
    return _table(["model", "verdict", *(column.name for column in COLUMNS)], rows)


def _quality(report: Report) -> str:
    rows = [
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in quality_cells(one))
        + "</tr>"
        for name, one in qualities(report)
    ]
    if not rows:
        return ""
    said = (
        f"Held against the true classes in {escape(repr(report.label))}. Macro F1 is the unweighted "
        "mean of the F1 of the classes, its interval is over rows drawn again. The calibration error "
        "is how far the largest probability is from the share of right answers."
    )
    return f"<p>{said}</p>{_table(['model', *QUALITY], rows)}"


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    cells = "".join(
        f'<th scope="col"{" class=words" if name == "verdict" else ""}>{escape(name)}</th>'
        for name in head
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{cells}</tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _objections(report: Report) -> str:
    return _list(f"{name}: {what}: {why}" for name, what, why in objections(report))


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(a)}</dt><dd>{escape(b)}</dd>' for a, b in pairs)}</dl>"
