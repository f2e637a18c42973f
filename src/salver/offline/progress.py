"""Shows how far a job is: a bar on a terminal, a line now and then elsewhere.

It does not know the job; it is given reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from salver.offline.job import Progress

LINE_EVERY_S = 10.0


def rate(progress: Progress, now: float) -> float:
    """Rows per second of this run; `now` is of `time.monotonic()`."""
    elapsed = now - progress.started
    return (progress.rows_done - progress.rows_before) / elapsed if elapsed > 0 else 0.0


def seconds_left(progress: Progress, now: float) -> float | None:
    """Seconds to the end at the pace of this run, by bytes of input; null if not known yet."""
    passed = progress.bytes_done - progress.bytes_before
    left = progress.bytes_total - progress.bytes_done
    if passed <= 0:
        return None
    return max(left, 0) * (now - progress.started) / passed


def summary(progress: Progress, now: float) -> str:
    """One line for people."""
    parts = [f"{progress.rows_done:,} rows", f"{rate(progress, now):,.0f} rows/s"]
    if progress.bad:
        parts.append(f"{progress.bad:,} in quarantine")
    left = seconds_left(progress, now)
    if progress.finished:
        parts.append(f"done in {_clock(now - progress.started)}")
    elif left is not None:
        parts.append(f"{_clock(left)} left")
    return ", ".join(parts)


class ProgressBar:
    """Renders reports on a console; a context manager, to be called with each report.

    Args:
        console: Where to show them; standard error by default.
        clock: Seconds, as `time.monotonic()`.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._line_at: float | None = None
        self._bar = Bar(
            TextColumn("{task.percentage:>3.0f}%"), BarColumn(), _Summary(), console=self._console
        )
        self._task = self._bar.add_task("", total=None, line="")

    def __enter__(self) -> ProgressBar:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Shows a report."""
        now = self._clock()
        line = summary(progress, now)
        if self._console.is_terminal:
            total = max(progress.bytes_total, 1)
            done = total if progress.finished else progress.bytes_done
            self._bar.update(self._task, total=total, completed=done, line=line)
            return
        if self._line_at is None:
            self._line_at = now  # a short job says one line, at its end
        if progress.finished or now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Summary(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(task.fields["line"])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
