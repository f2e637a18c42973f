"""Markdown tables and numbers as people read them.

It does not know what is in a table.
"""

from collections.abc import Iterator, Sequence
from typing import Any

Json = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """A Markdown table; numbers stand at the right."""
    aligned = [
        "--:" if rows and all(_is_number(row[place]) for row in rows) else "---"
        for place in range(len(head))
    ]
    lines = [_line(head), _line(aligned), *[_line([cell or "" for cell in row]) for row in rows]]
    return "\n".join(lines)


def whole(value: float | None) -> str:
    """1234.5 -> 1,234; small numbers keep a digit; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 20 else decimals(value)


def decimals(value: float | None) -> str:
    """Digits that mean something: 1,234, 123, 12.3, 1.23, 0.12, 0.001."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.01 or value == 0 else f"{value:.1g}"


def percent(share: float) -> str:
    """0.0234 -> 2.3 %."""
    return f"{share * 100:.1f} %"


def refused(measurements: Sequence[Json], titles: dict[str, str]) -> Iterator[str]:
    """The systems without numbers as a list in Markdown, if there are any."""
    if said := [*reasons(measurements)]:
        yield "\n".join(
            f"- {titles.get(system, system)}{where}: **refused**: {reason}"
            for system, where, reason in said
        )


def reasons(measurements: Sequence[Json]) -> Iterator[tuple[str, str, str]]:
    """(system, the loads it holds for, why) of what was refused, each reason once."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in measurements:
        if reason := one.get("refused"):
            found = places.setdefault((one["system"], " ".join(reason.split())), [])
            found += [str(one["connections"])] if one.get("connections") else []
    for (system, reason), counts in places.items():
        yield system, f" at {', '.join(counts)} connections" if counts else "", reason


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _is_number(cell: str | None) -> bool:
    digits = (cell or "").translate(str.maketrans("", "", " ,./%x-"))
    return bool(cell) and (digits.isdecimal() or cell == "-")
