"""The offline jobs: which systems predict a file, with which commands and settings.

A job is a command that reads a CSV file (id, title, description) and writes a folder of Parquet.
It does not know how jobs are timed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.plan import CONTROL
from bench.systems import Setup
from bench.systems.ray_lesson import QUIET, VENV
from bench.systems.ray_lesson import REQUIREMENTS as RAY
from bench.systems.salver import SERVICES

FILE_ROWS = 4_000
# A job over so few rows tells what it costs to start: imports, cluster, model.
START_ROWS = 16
GROWTH_ROWS = (10_000, 100_000, 1_000_000)
GROWTH_ROUNDS = 3  # a million rows take each system a while, and memory hardly varies


@dataclass(frozen=True)
class Files:
    """What a job reads and writes."""

    input: Path
    output: Path  # a folder that is not there yet


@dataclass(frozen=True)
class Job:
    """One way to predict a file.

    Attributes:
        command: what to run; `Setup.threads` and `workers` are what `shape` gave.
        shape: `shape(cores)`: (processes, math threads of each).
        requirements: of its environment; () = the project's own.
        environment: variables beside those of every measured process.
        bare: whether it is a limit rather than a contender.
        grows: whether it is measured on growing files too.
    """

    name: str
    title: str
    distribution: str
    command: Callable[[Setup, Files], tuple[str, ...]]
    shape: Callable[[int], tuple[int, int]]
    settings: str
    requirements: tuple[str, ...] = ()
    venv: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    bare: bool = False
    grows: bool = False


def _salver(setup: Setup, files: Files) -> tuple[str, ...]:
    target = f"bench.services:{SERVICES[setup.model]}"
    command = str(setup.python.with_name("salver"))
    return (command, "predict", target, str(files.input), str(files.output))


def _program(name: str, *options: str) -> Callable[[Setup, Files], tuple[str, ...]]:
    """The command of one of `bench.offline_jobs`; `{threads}` and such are filled in."""

    def command(setup: Setup, files: Files) -> tuple[str, ...]:
        values = {"threads": setup.threads, "workers": setup.workers, "cores": setup.cores}
        values["batch"] = _batch(setup.model)
        given = (setup.model, str(setup.folder), str(files.input), str(files.output))
        program = (str(setup.python), "-m", f"bench.offline_jobs.{name}")
        return (*program, *given, *(option.format(**values) for option in options))

    return command


def _batch(model: str) -> int:
    """Rows in a call where the job leaves that to us: 8, which suits a transformer on a CPU."""
    return 1024 if model == "constant" else 8


def _one_on_all(cores: int) -> tuple[int, int]:
    return 1, cores


def _one_on_each(cores: int) -> tuple[int, int]:
    return cores, 1


_BARE = ("--processes={workers}", "--threads={threads}", "--batch={batch}")

_SALVER = Job(
    name="salver",
    title="Salver",
    distribution="salver",
    command=_salver,
    shape=_one_on_each,
    settings="`salver predict` with the service that is measured online",
    grows=True,
)

JOBS = (
    Job(
        name="bare-threads",
        title="bare loop, one process on all cores",
        distribution="onnxruntime",
        command=_program("bare_loop", *_BARE),
        shape=_one_on_all,
        settings="batches of 8 sorted by length over the whole file",
        bare=True,
    ),
    Job(
        name="bare-processes",
        title="bare loop, a process on each core",
        distribution="onnxruntime",
        command=_program("bare_loop", *_BARE),
        shape=_one_on_each,
        settings="batches of 8 sorted by length over the whole file",
        bare=True,
    ),
    _SALVER,
    Job(
        name="pandas",
        title="pandas and the model",
        distribution="pandas",
        command=_program("pandas_loop", "--threads={threads}", "--batch={batch}"),
        shape=_one_on_all,
        settings="a frame, in slices of 8 rows in the order of the file (constant: 1,024)",
        grows=True,
    ),
    Job(
        name="ray-data-lesson",
        title="Ray Data (the course's settings)",
        distribution="ray",
        command=_program("ray_data", "--settings=lesson", "--cores={cores}"),
        shape=_one_on_each,
        settings="`map_batches` with batches of 128 in the order of the file, one to two actors",
        requirements=RAY,
        venv=VENV,
        environment=tuple(QUIET.items()),
    ),
    Job(
        name="ray-data-tuned",
        title="Ray Data (tuned)",
        distribution="ray",
        command=_program("ray_data", "--settings=tuned", "--cores={cores}"),
        shape=_one_on_each,
        settings="`map_batches` with batches of 16 (constant: 1,024), an actor and four blocks for "
        "each core",
        requirements=RAY,
        venv=VENV,
        environment=tuple(QUIET.items()),
        grows=True,
    ),
)


@dataclass(frozen=True)
class Task:
    """One job over one file, in one round."""

    round: int
    system: str  # the job's name, or that of its twin in the A/A control
    job: Job
    model: str
    rows: int  # START_ROWS: run to learn what starting costs


def tasks(number: int) -> Iterator[Task]:
    """Round `number` (from 1): the real model over one file, then growing files without a model.

    The order is turned round in even rounds, so that a drift of the machine falls on all alike;
    Salver stands in it twice, as far from its twin as can be.
    """
    entries = [(job.name, job) for job in JOBS] + [(CONTROL, _SALVER)]
    yield from _in_turn(number, entries, "minilm", (START_ROWS, FILE_ROWS))
    if number <= GROWTH_ROUNDS:
        growing = [(job.name, job) for job in JOBS if job.grows]
        yield from _in_turn(number, growing, "constant", (START_ROWS, *GROWTH_ROWS))


def _in_turn(
    number: int, entries: list[tuple[str, Job]], model: str, sizes: tuple[int, ...]
) -> Iterator[Task]:
    for rows in sizes:
        for name, job in entries if number % 2 else reversed(entries):
            yield Task(number, name, job, model, rows)
