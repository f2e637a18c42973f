"""What the tests of this folder share: waiting with a deadline, and looking at processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

PATIENCE_S = 60.0  # for what should take a moment, on a machine that has much else to do


def wait_until(holds: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> float:
    """Waits until something holds; returns the seconds that took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, f"after {seconds:g} s: not {what}"
        time.sleep(0.005)
    return time.monotonic() - started


def lives(pid: int) -> bool:
    """True for a process that runs, and is not only waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_for_end(pids: Iterable[int], seconds: float) -> None:
    """Asserts that all processes end within a time."""
    pids = list(pids)
    wait_until(lambda: not any(map(lives, pids)), f"ended: {pids}", seconds)
