"""A report as one HTML file: its style, its frame, and tables, lists and pairs within it.

The file asks for nothing from elsewhere and runs no script. This module does not know what is
reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from html import escape

from salver.reports.terminal import Cells

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


def page(
    title: str,
    conclusion: str,
    introduction: str,
    sections: Iterable[tuple[str, str]],
    footer: str,
    style: str = "",
) -> str:
    """A page that stands alone, readable on light and on dark ground and on a telephone.

    Args:
        title: Of the page, plain text.
        conclusion: What matters most, plain text.
        introduction: A paragraph of plain text.
        sections: Their heads, as plain text, and what they hold, as HTML; one that holds nothing
            is left out.
        footer: Plain text.
        style: CSS of this page alone.
    """
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
<style>{_CSS}{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="conclusion">{escape(conclusion)}</p>
<p>{escape(introduction)}</p>
{body}
<footer>{escape(footer)}</footer>
</body>
</html>
"""


def table(head: Iterable[str], rows: Iterable[str], words: Collection[str] = ()) -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        head: Names of the columns, plain text.
        rows: Each an element `tr`; the first cell of a row is its name.
        words: Columns that hold words, which stand at the left.
    """
    cells = "".join(
        f'<th scope="col"{" class=words" if name in words else ""}>{escape(name)}</th>'
        for name in head
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{cells}</tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def table_of(given: Cells | None, used: Collection[str] = ()) -> str:
    """The table that a terminal shows, too, as HTML; nothing for no table.

    Args:
        given: The table.
        used: Verdicts, which are last cells, of lines that stand out.
    """
    if given is None:
        return ""
    rows = [row(name, cells, is_used=cells[-1] in used) for name, *cells in given.rows]
    return table([given.subject, *given.head], rows)


def row(name: str, cells: Iterable[str], is_used: bool = False) -> str:
    """A line of a table of numbers.

    Args:
        name: Plain text, as are the cells.
        cells: All that follow the name.
        is_used: Whether it is the one in use, which stands out.
    """
    return (
        f'<tr{" class=used" if is_used else ""}><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def paragraphs(texts: Iterable[str]) -> str:
    """A paragraph for each plain text."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def bullets(texts: Iterable[str]) -> str:
    """A list of plain texts; nothing for none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def pairs(given: Iterable[tuple[str, str]]) -> str:
    """Names and what belongs to each, plain text both."""
    return f"<dl>{''.join(f'<dt>{escape(a)}</dt><dd>{escape(b)}</dd>' for a, b in given)}</dl>"
