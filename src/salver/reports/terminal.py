"""A report as plain text for a terminal: texts made harmless, and aligned tables.

This module does not know what is reported.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from textwrap import wrap

WIDTH = 110  # columns of a terminal
NONE = "-"  # in place of a number that there is not


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


def wrapped(paragraphs: Sequence[str], indent: str = "") -> list[str]:
    """Lines of paragraphs, each at most `WIDTH` columns.

    Args:
        paragraphs: One line each; an empty one is an empty line.
        indent: Before all lines of a paragraph but its first.
    """
    return [
        line for one in paragraphs for line in wrap(one, WIDTH, subsequent_indent=indent) or [""]
    ]


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
