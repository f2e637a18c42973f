"""Tests of `salver.offline.progress`."""

import io
from dataclasses import replace

from rich.console import Console

from salver.offline.job import Progress
from salver.offline.progress import ProgressBar, rate, seconds_left, summary

HALF = Progress(
    rows_done=1500,
    rows_before=500,
    bad=2,
    bytes_done=50,
    bytes_before=20,
    bytes_total=110,
    started=100.0,
)


def test_pace_is_that_of_this_run() -> None:
    """Rows and bytes of earlier runs count neither for the rate nor for the time left."""
    assert rate(HALF, 110.0) == 100.0
    assert seconds_left(HALF, 110.0) == 20.0
    assert seconds_left(replace(HALF, bytes_done=20), 110.0) is None
    assert rate(HALF, 100.0) == 0.0


def test_a_line_says_all() -> None:
    """Rows, rate, quarantine, and time left or taken."""
    assert summary(HALF, 110.0) == "1,500 rows, 100 rows/s, 2 in quarantine, 0:20 left"
    ended = replace(HALF, bad=0, finished=True)
    assert summary(ended, 100.0 + 3723) == "1,500 rows, 0 rows/s, done in 1:02:03"


def test_without_a_terminal_lines_come_now_and_then() -> None:
    """At most one line in ten seconds, and one at the end."""
    now = 100.0
    text = io.StringIO()
    with ProgressBar(Console(file=text), clock=lambda: now) as bar:
        for _ in range(25):
            now += 1.0
            bar(HALF)
        bar(replace(HALF, finished=True))
    assert len(text.getvalue().splitlines()) == 3
    assert text.getvalue().splitlines()[-1].endswith("done in 0:25")


def test_on_a_terminal_there_is_a_bar() -> None:
    """It shows the share of the bytes and the same line."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with ProgressBar(console, clock=lambda: 110.0) as bar:
        bar(HALF)
        bar(replace(HALF, finished=True))
    assert "100%" in text.getvalue()
    assert "1,500 rows" in text.getvalue()
