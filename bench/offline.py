"""The offline part of a run: files predicted by every system in turn, checked and timed.

Each job is a process of its own. It does not know the command line, nor what the systems do. An
interrupted run keeps what it has measured.
"""

import contextlib
import csv
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import machine, offline_results, prepare, results
from bench.answers import WrongAnswer
from bench.environments import EnvironmentFailed, python_of, version_of
from bench.offline_plan import JOBS, START_ROWS, Files, Job, Task, tasks
from bench.offline_results import Outcome
from bench.plan import CONTROL, CONTROL_OF
from bench.processes import Running, ServerFailed
from bench.systems import Launch, Setup

PART = "offline"
LIMIT_S = 900.0
SAMPLE_S = 0.1
# Reading the memory of a dozen processes takes a while; at most this share of one core.
SAMPLING_SHARE = 0.05


def run(rounds: int, path: Path, console: Console) -> None:
    """Measures all jobs and writes the offline part of the results file after every round.

    Raises:
        KeyboardInterrupt: When it is interrupted; what was measured is saved first.
    """
    site = _install(console)
    head = {
        "date": machine.now(),
        "machine": machine.description(),
        "versions": site.versions,
        "settings": {
            "rounds": rounds,
            "start_rows": START_ROWS,
            "systems": {job.name: _settings(job, site.cores) for job in JOBS},
        },
    }
    outcomes: list[Outcome] = []

    def save() -> None:
        bare = [job.name for job in JOBS if job.bare]
        content = offline_results.summary(outcomes, START_ROWS, bare, site.versions)
        results.write_part(path, PART, head | content)

    try:
        with _scratch() as folder:
            for number in range(1, rounds + 1):
                for task in tasks(number):
                    console.print(
                        f"round {number}: {task.model}, {task.rows:,} rows: {task.system}"
                    )
                    outcomes.append(measure(task, site, folder))
                save()
    except KeyboardInterrupt:
        save()
        raise
    _show(results.read(path)[PART], console)


@dataclass
class Site:
    """Where jobs run: cores, interpreters, and why some have none."""

    cores: int
    pythons: dict[str, Path] = field(default_factory=dict)
    uninstalled: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def _install(console: Console) -> Site:
    site = Site(machine.cores())
    for job in JOBS:
        try:
            site.pythons[job.name] = python_of(job.venv or job.name, job.requirements)
        except EnvironmentFailed as failure:
            site.uninstalled[job.name] = f"not installed: {failure}"
            console.print(f"[red]{job.title}: {failure}[/red]")
        else:
            site.versions[job.name] = version_of(site.pythons[job.name], job.distribution)
    site.versions[CONTROL] = site.versions[CONTROL_OF]
    return site


def _settings(job: Job, cores: int) -> dict[str, object]:
    return {
        "title": job.title,
        "requirements": list(job.requirements),
        "workers x threads": " x ".join(map(str, job.shape(cores))),
        "note": job.settings,
    }


def measure(task: Task, site: Site, scratch: Path) -> Outcome:
    """Runs one job over one file and checks what it wrote; failures become a reason.

    Args:
        task: what to run.
        site: where.
        scratch: a folder for inputs, which are kept there, and outputs, which are not.
    """
    outcome = Outcome(task.round, task.system, task.model, task.rows)
    if reason := site.uninstalled.get(task.job.name):
        return replace(outcome, refused=reason)
    try:
        seconds, rss_mb = _timed(task, site, scratch)
    except (ServerFailed, WrongAnswer) as failure:
        return replace(outcome, refused=str(failure))
    return replace(outcome, seconds=seconds, rss_mb=rss_mb)


def _timed(task: Task, site: Site, scratch: Path) -> tuple[float, float]:
    """Seconds and peak memory of one job, its output checked and deleted."""
    files = Files(request_file(scratch, task.rows), scratch / "output")
    workers, threads = task.job.shape(site.cores)
    setup = Setup(
        model=task.model,
        folder=prepare.folder(task.model),
        port=0,
        threads=threads,
        workers=workers,
        cores=site.cores,
        python=site.pythons[task.job.name],
    )
    process = _Process(Launch(task.job.command(setup, files), dict(task.job.environment)), setup)
    try:
        seconds, memory_mb = process.to_its_end(LIMIT_S)
        offline_results.check(files.output, task.rows, prepare.reference(task.model))
    finally:
        process.stop()
        shutil.rmtree(files.output, ignore_errors=True)
    return seconds, memory_mb


class _Process(Running):
    """A job: a process that ends by itself."""

    def to_its_end(self, limit_s: float) -> tuple[float, float]:
        """Runs it; returns its seconds and the most memory of all its processes, in MB.

        Raises:
            ServerFailed: If it fails, or takes longer than the limit.
        """
        peak_mb = 0.0
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak_mb
            pause = 0.0
            while not ended.wait(pause):
                start = time.monotonic()
                peak_mb = max(peak_mb, self.usage().memory_mb)
                pause = max(SAMPLE_S, (time.monotonic() - start) / SAMPLING_SHARE)

        self.start()
        assert self._root is not None  # it has just been started
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            code = self._root.wait(limit_s)
            seconds = time.monotonic() - self.started_at
        except subprocess.TimeoutExpired:
            raise ServerFailed(
                f"it did not end within {limit_s:g} s: {self.last_words()}"
            ) from None
        finally:
            ended.set()
            watcher.join()
        if code != 0:
            raise ServerFailed(f"it ended with code {code}: {self.last_words()}")
        return seconds, peak_mb


def request_file(folder: Path, rows: int) -> Path:
    """A CSV file of so many rows, made if it is not there: id, title, description.

    The rows are `prepare.rows()`, over and over; ids count from 0.
    """
    file = folder / f"{rows}.csv"
    if not file.exists():
        texts = [(row["title"], row["description"]) for row in prepare.rows()]
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("id", "title", "description"))
            writer.writerows((i, *texts[i % len(texts)]) for i in range(rows))
    return file


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for inputs and outputs, empty at first and gone afterwards."""
    folder = prepare.ARTIFACTS / PART
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _show(offline: results.Json, console: Console) -> None:
    """The medians and the A/A control, on the terminal."""
    table = Table(title="CSV to Parquet")
    for name in ("system", "model"):
        table.add_column(name)
    for name in ("rows", "rows/s", "once started", "of bare", "once started", "MB", "start s"):
        table.add_column(name, justify="right")
    for one in offline["measurements"]:
        head = (one["system"], one["model"], f"{one['rows']:,}")
        table.add_row(*head, *_row(one))
    console.print(table)
    for one in offline["control"]:
        console.print(
            f"A/A control, {one['model']}, {one['rows']:,} rows: {CONTROL} / {CONTROL_OF} = "
            f"{one['ratio']:.3f} ({one['lowest']:.3f} to {one['highest']:.3f}); a difference below "
            f"{one['no_difference_below']:.1%} is none"
        )


def _row(one: results.Json) -> list[str]:
    if one.get("refused"):
        return [f"[red]refused: {one['refused']}[/red]"]
    ratios = (one["ratio_to_bare"], one["ratio_to_bare_started"])
    return [
        f"{one['rows_per_s']:,.0f}",
        f"{one['rows_per_s_started']:,.0f}" if one["rows_per_s_started"] else "",
        *(f"{ratio:.2f}" if ratio else "" for ratio in ratios),
        f"{one['rss_mb']:,.0f}",
        f"{one['startup_s']:.1f}" if one["startup_s"] else "",
    ]
