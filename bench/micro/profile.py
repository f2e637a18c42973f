"""`python -m bench.micro.profile MODEL`: flame graphs of Salver under load, one per process.

Starts the same server as the benchmark, loads it over 64 connections, and lets py-spy look at the
front and at a replica. It does not know what a flame graph says.
"""

import subprocess
import sys
import threading
from pathlib import Path

import click
import psutil

from bench import machine, prepare
from bench.answers import Client
from bench.load import bodies_file, measure
from bench.processes import Running, ServerFailed, free_port
from bench.systems import MODELS, SYSTEMS, Setup

RESULTS = Path(__file__).parents[1] / "results"
CONNECTIONS = 64
START_LIMIT_S = 120.0


@click.command()
@click.argument("model", type=click.Choice(MODELS), default="constant")
@click.option(
    "--seconds", default=8, show_default=True, type=click.IntRange(1), help="Of sampling."
)
def main(model: str, seconds: int) -> None:
    """Draw flame graphs of a server under load: bench/results/MODEL-front.svg and -replica.svg."""
    system = SYSTEMS["salver"]
    cores = machine.cores()
    setup = Setup(
        model=model,
        folder=prepare.folder(model),
        port=free_port(),
        threads=1,
        workers=cores,
        cores=cores,
        python=Path(sys.executable),
    )
    launch = system.launch(setup)
    client = Client(system, setup.port, launch.path)
    server = Running(launch, setup)
    RESULTS.mkdir(exist_ok=True)
    rows = prepare.rows()
    try:
        server.start()
        server.wait(lambda: client.answers(rows[0]), START_LIMIT_S)
        with bodies_file([system.encode(row) for row in rows]) as bodies:
            load = threading.Thread(
                target=measure,
                args=(setup.port, launch.path, system.headers, bodies, CONNECTIONS, seconds + 2.0),
            )
            load.start()
            for name, process in _processes(server).items():
                click.echo(_sample(process, RESULTS / f"{model}-{name}.svg", seconds / 2))
            load.join()
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    finally:
        server.stop()


def _processes(server: Running) -> dict[str, psutil.Process]:
    """The front, and one of its replicas."""
    found: dict[str, psutil.Process] = {}
    for process in server.processes():
        is_replica = any("salver.engine.worker" in part for part in process.cmdline())
        found.setdefault("replica" if is_replica else "front", process)
    return found


def _sample(process: psutil.Process, path: Path, seconds: float) -> str:
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(process.pid)]
    command += ["--duration", str(max(1, round(seconds))), "--rate", "500", "--output", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise click.ClickException(
            f"py-spy could not look at process {process.pid}: {run.stderr.strip()[-300:]}. It needs "
            "the right to trace other processes, as root or with ptrace_scope 0."
        )
    return f"written: {path}"


if __name__ == "__main__":
    main()
