"""A report as plain text for a terminal: texts made harmless, and aligned tables.

This module does not know what is reported, nor how a page shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from textwrap import wrap
from typing import NamedTuple

from salver.trust.quality import Estimate

WIDTH = 110  # columns of a terminal
NONE = "-"  # in place of a number that there is not
_VERDICT = "verdict"


class Cells(NamedTuple):
    """A table as plain texts, for a terminal as for a page.

    Attributes:
        subject: What it is about; stands above the names of its lines.
        head: Names of its other columns; one that is called "verdict" stands last, and holds words.
        rows: Its lines, the first cell of each a name.
    """

    subject: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def plain(given: str) -> str:
    """A text from elsewhere on one line, without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in given).split())


def percent(share: float, decimals: int = 2) -> str:
    """A share in percent; 0 and 100 only where they are exact.

    Args:
        share: From 0 to 1.
        decimals: That are shown.
    """
    least = 10.0 ** -(decimals + 2)
    return (
        f"{share:.0%}" if share in (0, 1) else f"{min(max(share, least), 1 - least):.{decimals}%}"
    )


def share_cells(share: Estimate | None) -> list[str]:
    """Texts for two columns: a share, and its interval; dashes where there is none.

    Args:
        share: From 0 to 1, as are the ends of its interval.
    """
    if share is None:
        return [NONE, NONE]
    return [percent(share.value, 1), f"{percent(share.low, 1)} to {percent(share.high, 1)}"]


def wrapped(paragraphs: Sequence[str], indent: str = "") -> list[str]:
    """Lines of paragraphs, each at most `WIDTH` columns.

    Args:
        paragraphs: One line each; an empty one is an empty line.
        indent: Before all lines of a paragraph but its first.
    """
    return [
        line for one in paragraphs for line in wrap(one, WIDTH, subsequent_indent=indent) or [""]
    ]


def lines_of(given: Cells | None) -> list[str]:
    """Lines of a table, verdicts at the left; none for no table."""
    if given is None:
        return []
    last = len(given.head)
    head = [("", name) for name in (given.subject, *given.head)]
    return aligned(head, given.rows, left=(0, last) if given.head[-1] == _VERDICT else (0,))


def aligned(
    head: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], left: Collection[int]
) -> list[str]:
    """Lines of a table; a name that is too long has a line for itself, above its numbers.

    Args:
        head: Names of the columns, in two short lines each.
        rows: As many texts each; the first is the name.
        left: Columns that stand at the left, by position; all others stand at the right.
    """
    tops = [[one[0] for one in head]] if any(one[0] for one in head) else []
    cells = [*tops, [one[1] for one in head], *map(list, rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - len(widths) + 1)
    cells.insert(len(tops) + 1, ["-" * width for width in widths])
    found = []
    for name, *others in cells:
        if too_long := len(name) > widths[0]:
            found += wrap(name, WIDTH)
        texts = [
            value.ljust(width) if place in left else value.rjust(width)
            for place, (value, width) in enumerate(
                zip(["" if too_long else name, *others], widths, strict=True)
            )
        ]
        found.append(" ".join(texts).rstrip())
    return found
