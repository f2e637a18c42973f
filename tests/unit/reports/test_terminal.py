"""Plain text of reports."""

from __future__ import annotations

import pytest

from salver.reports.terminal import (
    WIDTH,
    Cells,
    aligned,
    lines_of,
    percent,
    plain,
    share_cells,
    wrapped,
)
from salver.trust.quality import Estimate

HEAD = [("", "name"), ("in", "use"), ("", "verdict")]


def test_a_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    """Colours and line ends become spaces."""
    assert "[31mdoes not run [0m" == plain("\x1b[31mdoes not\nrun\x1b[0m")


@pytest.mark.parametrize(
    ("share", "decimals", "shown"),
    [
        (0.0, 2, "0%"),
        (1.0, 2, "100%"),
        (0.5, 2, "50.00%"),
        (0.99999, 2, "99.99%"),
        (0.00001, 2, "0.01%"),
        (0.99999, 1, "99.9%"),
        (0.00001, 1, "0.1%"),
        (0.123, 1, "12.3%"),
    ],
)
def test_a_share_is_not_rounded_to_all_or_nothing(share: float, decimals: int, shown: str) -> None:
    """Only an exact 0 or 1 is shown as one."""
    assert shown == percent(share, decimals)


def test_paragraphs_are_as_wide_as_the_terminal() -> None:
    """All lines but the first of each may be indented."""
    lines = wrapped(["word " * 60, "", "short"], indent="  ")
    assert WIDTH >= max(map(len, lines))
    assert lines[1].startswith("  word")
    assert ["", "short"] == lines[-2:]


def test_a_table_is_aligned() -> None:
    """Numbers stand at the right, words at the left, and no line ends in spaces."""
    assert [
        "      in",
        "name use verdict",
        "---- --- -------",
        "a      1 yes",
        "bbbb  22 no",
    ] == aligned(HEAD, [["a", "1", "yes"], ["bbbb", "22", "no"]], left=(0, 2))


def test_a_name_that_is_too_long_has_lines_for_itself() -> None:
    """Its numbers stand below it, in their columns."""
    lines = aligned(HEAD, [["a", "1", "yes"], ["x" * 300, "22", "no"]], left=(0, 2))
    assert WIDTH >= max(map(len, lines))
    assert "x" * 300 == "".join(line for line in lines if line.startswith("x"))
    assert lines[-1].split() == ["22", "no"]
    assert lines[-1].index("22") == lines[3].index("1") - 1


def test_a_verdict_stands_at_the_left() -> None:
    """It is a word; all other columns hold numbers, whatever the last is called."""
    rows = [["a", "1", "alarm"], ["bbbbb", "22", "no alarm"]]
    assert [
        "drift PSI verdict",
        "----- --- --------",
        "a       1 alarm",
        "bbbbb  22 no alarm",
    ] == lines_of(Cells("drift", ["PSI", "verdict"], rows))
    assert [
        "drift PSI     rows",
        "----- --- --------",
        "a       1    alarm",
        "bbbbb  22 no alarm",
    ] == lines_of(Cells("drift", ["PSI", "rows"], rows))


def test_no_table_has_no_lines() -> None:
    """Not even a head."""
    assert [] == lines_of(None)


def test_a_share_stands_beside_its_interval() -> None:
    """In percent with one decimal; dashes stand for what is not known."""
    assert ["90.9%", "89.1% to 99.9%"] == share_cells(Estimate(0.909, 0.891, 0.99999))
    assert ["100%", "0% to 100%"] == share_cells(Estimate(1.0, 0.0, 1.0))
    assert ["-", "-"] == share_cells(None)
