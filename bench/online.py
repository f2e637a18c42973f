"""The online part of a run: prepare, install, go round, save after every round.

It does not know the command line. An interrupted run keeps what it has measured.
"""

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bench import machine, prepare, results, rounds
from bench.plan import CONTROL, CONTROL_OF, Plan
from bench.tables import reasons

PART = "online"


def run(plan: Plan, path: Path, console: Console) -> None:
    """Measures everything in the plan and writes the online part of the results file.

    Raises:
        KeyboardInterrupt: When it is interrupted; what was measured is saved first.
    """
    cores = machine.cores()
    for model in plan.models:
        console.print(f"model {model}")
        prepare.folder(model)
    site = rounds.install(plan, cores, console.print)
    for name, reason in site.uninstalled.items():
        console.print(f"[red]{name}: {reason}[/red]")
    head = {
        "date": machine.now(),
        "machine": machine.description(),
        "versions": machine.versions(plan.systems, site.pythons),
        "settings": machine.settings(plan),
    }
    minutes = plan.cost_s / 60
    console.print(
        f"{plan.rounds} rounds over {len(plan.systems)} systems: about {minutes:.0f} minutes, "
        f"until {time.strftime('%H:%M', time.localtime(time.time() + plan.cost_s))}; "
        f"results go to {path} after each round"
    )
    collected = results.Collected()
    try:
        with _progress(console) as progress:
            task = progress.add_task("", total=plan.cost_s)
            for number in range(1, plan.rounds + 1):
                for step in plan.steps(number):
                    _tell(progress, task, str(step))
                    rounds.go(step, site, collected)
                    progress.update(task, advance=step.cost_s)
                _save(path, head, collected)
    except KeyboardInterrupt:
        _save(path, head, collected)
        raise
    _show(results.read(path)[PART], console)


def _progress(console: Console) -> Progress:
    columns = (BarColumn(20), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.description}"), console=console)


def _tell(progress: Progress, task: TaskID, step: str) -> None:
    """What is being measured: in the bar, or as a line where the output is no terminal."""
    progress.update(task, description=step)
    if not progress.console.is_terminal:
        progress.console.print(f"{time.strftime('%H:%M:%S')} {step}")


def _save(path: Path, head: results.Json, collected: results.Collected) -> None:
    content = head | results.online(collected, head["versions"])
    results.write_part(path, PART, content)


def _show(online: results.Json, console: Console) -> None:
    """The medians and the A/A control, on the terminal."""
    for model in dict.fromkeys(one["model"] for one in online["measurements"]):
        table = Table(title=model)
        table.add_column("system", no_wrap=True)
        for name in ("at", "req/s", "p50 ms", "p99 ms", "of bare", "MB", "start s"):
            table.add_column(name, justify="right")
        for one in online["measurements"]:
            if one["model"] == model:
                table.add_row(*_row(one))
        console.print(table)
        for system, where, reason in reasons(
            [one for one in online["measurements"] if one["model"] == model]
        ):
            console.print(f"[red]{system}{where}: refused: {escape(reason)}[/red]")
    for one in online["control"]:
        console.print(
            f"A/A control, {one['model']} at {one['connections']}: {CONTROL} / {CONTROL_OF} = "
            f"{one['ratio']:.3f} ({one['lowest']:.3f} to {one['highest']:.3f}); a difference below "
            f"{one['no_difference_below']:.1%} is none"
        )


def _row(one: results.Json) -> list[str]:
    if one.get("refused"):
        return [one["system"], str(one["connections"] or ""), "[red]refused[/red]"]
    ratio = one["ratio_to_bare"]
    return [
        one["system"],
        str(one["connections"]),
        f"{one['requests_per_s']:,.0f}",
        f"{one['p50_ms']:.2f}",
        f"{one['p99_ms']:.2f}",
        f"{ratio:.2f}" if ratio else "",
        f"{one['rss_mb']:.0f}",
        f"{one['startup_s']:.1f}",
    ]
