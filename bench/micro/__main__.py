"""`python -m bench.micro`: a table of what each step of a request costs, per row."""

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.table import Table

from bench.micro.steps import Step, steps

BATCHES = (1, 8, 64)
REPEATS = 30
LEAST_S = 0.002  # of one repeat, far above the resolution of the clock
RESULTS = Path(__file__).parents[1] / "results" / "micro.json"


def microseconds(run: Callable[[], Any]) -> float:
    """The best of many repeats: what the work takes when nothing else disturbs it."""
    run()
    times, taken = 1, 0.0
    while taken < LEAST_S:
        times *= 2
        taken = _seconds(run, times)
    return min(_seconds(run, times) for _ in range(REPEATS)) / times * 1e6


def _seconds(run: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - start


async def _measure() -> dict[int, list[tuple[Step, float]]]:
    gc.disable()
    return {n: [(s, microseconds(s.run) / n) for s in steps(n)] for n in BATCHES}


@click.command()
def main() -> None:
    """Time the steps of one request from inside, in microseconds per row.

    Rows come in batches of 1, 8 and 64. The best of 30 repeats counts; sockets, the second process
    and the garbage collector are left out. Writes bench/results/micro.json too.
    """
    measured = uvloop.run(_measure())
    table = Table(title="microseconds per row, by rows in a batch")
    for column in ("step", "process", *map(str, BATCHES)):
        table.add_column(column, justify="left" if column in ("step", "process") else "right")
    by_step = list(zip(*measured.values(), strict=True))
    for row in by_step:
        step = row[0][0]
        name = step.name if step.counts else f"({step.name})"
        table.add_row(name, step.process, *(f"{taken:.2f}" for _, taken in row))
    for process in ("front", "replica"):
        sums = (_sum(measured[n], process) for n in BATCHES)
        table.add_row(f"all in the {process}", "", *(f"{taken:.2f}" for taken in sums))
    Console(width=100).print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    found = [
        {"step": s.name, "process": s.process, "rows": n, "us_per_row": round(taken, 3)}
        for n, all_steps in measured.items()
        for s, taken in all_steps
    ]
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _sum(taken: list[tuple[Step, float]], process: str) -> float:
    return sum(us for step, us in taken if step.process == process and step.counts)


if __name__ == "__main__":
    main()
