"""Tries the first replica of a deployment: how long batches take, and how much memory it holds.

The trial is short, and whatever the model does, it does not raise: what could not be found out is
left open, and said. It does not know what is decided from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from salver.engine.planning import Trial, next_size
from salver.errors import ReplicaDied
from salver.types import Batch, Outcomes

BOX_S = 0.15  # for all batches that are timed
WARM_UP_S = 0.5  # for the first call, which may import and compile; the first request would pay it
PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")

Run = Callable[[Batch], Awaitable[Outcomes]]


async def timed(
    run: Run,
    rows: Batch | None,
    sizes: Sequence[int],
    *,
    box_s: float = BOX_S,
    warm_up_s: float = WARM_UP_S,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[int, float], str]:
    """Times batches of growing size; the first call warms the model up and is not timed.

    A call that is under way when the time is over is left to itself.

    Args:
        run: Predicts a batch.
        rows: At least as many as the largest size; null if none could be made.
        sizes: Rows of a batch, smallest first.
        box_s: Seconds for all batches that are timed.
        warm_up_s: Seconds for the first call.
        clock: Seconds; for tests.

    Returns:
        The least time by size, in seconds; and what went wrong, for people, or an empty text.
    """
    if rows is None:
        return {}, "no row could be made that fits the input model: give examples=[...]"
    samples: dict[int, list[float]] = {}
    limit_s = warm_up_s
    try:
        async with asyncio.timeout(limit_s):
            failed = (await run(rows[:1])).failures
        limit_s = box_s
        end = clock() + box_s
        async with asyncio.timeout(box_s):
            while not failed and (n := next_size(samples, sizes, end - clock())):
                begun = clock()
                failed = (await run(rows[:n])).failures
                samples.setdefault(n, []).append(clock() - begun)
    except TimeoutError:
        return _least(samples), f"a batch took more than {limit_s:g} s"
    except ReplicaDied:
        return {}, f"its replica ended on {_MADE_UP}"
    if failed:
        return {}, f"the model failed on {_MADE_UP}"
    return _least(samples), ""


_MADE_UP = "a row made up for that: give examples=[...]"


def _least(samples: Mapping[int, Sequence[float]]) -> dict[int, float]:
    return {n: min(times) for n, times in samples.items()}


def resident_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Memory that a process holds, its part of what it shares with others; null if not known."""
    shared_out = _number_after("Pss:", proc / str(pid) / "smaps_rollup")
    if shared_out is not None:
        return shared_out * 1024
    alone = _number_after("VmRSS:", proc / str(pid) / "status")
    return None if alone is None else alone * 1024


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Memory that is left on this machine, or in the container that limits it."""
    left = []
    machine = _number_after("MemAvailable:", proc / "meminfo")
    if machine is not None:
        left.append(machine * 1024)
    limit, used = _number_in(cgroup / "memory.max"), _number_in(cgroup / "memory.current")
    if limit is not None and used is not None:
        # The page cache counts as used, but gives way.
        cache = _number_after("inactive_file", cgroup / "memory.stat") or 0
        left.append(max(0, limit - used + cache))
    return min(left, default=None)


def _number_after(word: str, path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # no such system, no such process any more, or no permission
        return None
    found = (line.split() for line in lines if line.startswith(word))
    return next((int(parts[1]) for parts in found if len(parts) > 1), None)


def _number_in(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" means that there is no limit


async def tried(run: Run, rows: Batch | None, sizes: Sequence[int], pid: int | None) -> Trial:
    """Times a replica and weighs it.

    Args:
        run: Predicts a batch on it.
        rows: See `timed`.
        sizes: See `timed`.
        pid: Its process; null if it has none of its own.
    """
    seconds, trouble = await timed(run, rows, sizes)
    resident = None if pid is None else resident_bytes(pid)
    return Trial(seconds, resident, available_bytes(), trouble)
