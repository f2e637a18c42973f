"""The rounds: every system started, checked, loaded and stopped, in turn.

It joins the others: the plan says what, this does it. It does not know what a rival is, nor how
medians are made.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import psutil

from bench import bare_loops, prepare
from bench.answers import FAULTS, Client, Expected, WrongAnswer
from bench.environments import EnvironmentFailed, python_of
from bench.load import Load, LoadFailed, bodies_file, measure
from bench.plan import WARM_UP_S, Loops, Plan, Step, Visit, enough
from bench.predictors import CLASSES
from bench.processes import Running, ServerFailed, free_port
from bench.results import Collected, Sample, Stay
from bench.systems import Row, Setup, System

START_LIMIT_S = 180.0
WARM_UP_CONNECTIONS = 16

Say = Callable[[str], None]


@dataclass
class Machine:
    """Where the rounds run, and what is known of it before they start.

    Attributes:
        cores: All that the systems and the load generator share.
        pythons: The interpreter of each system that could be installed.
        uninstalled: Why the others could not.
    """

    cores: int
    pythons: dict[str, Path] = field(default_factory=dict)
    uninstalled: dict[str, str] = field(default_factory=dict)


def install(plan: Plan, cores: int, say: Say) -> Machine:
    """Makes every system's environment; what fails is noted, not raised."""
    machine = Machine(cores)
    for system in plan.systems:
        say(f"environment of {system.title}")
        try:
            machine.pythons[system.name] = python_of(system.environment, system.requirements)
        except EnvironmentFailed as failure:
            machine.uninstalled[system.name] = f"not installed: {failure}"
    return machine


def go(step: Step, machine: Machine, into: Collected) -> None:
    """Measures one step of the plan; what goes wrong with it becomes a reason in the results."""
    if isinstance(step, Loops):
        into.loops += bare_loops.measure(step, machine.cores)
        return
    stay = Stay(step.round, step.system.name, step.model)
    if reason := machine.uninstalled.get(step.system.name):
        into.stays.append(replace(stay, refused=reason))
        return
    try:
        into.stays.append(_visit(step, stay, machine, into))
    except (ServerFailed, WrongAnswer, LoadFailed) as failure:
        into.stays.append(replace(stay, refused=str(failure)))


def setup_of(system: System, model: str, machine: Machine) -> Setup:
    """What a system is told: the model, a port, and the workers and threads it does best with."""
    workers, threads = system.shape(model, machine.cores)
    return Setup(
        model=model,
        folder=prepare.folder(model),
        port=free_port(),
        threads=threads,
        workers=workers,
        cores=machine.cores,
        python=machine.pythons[system.name],
    )


def _visit(visit: Visit, stay: Stay, machine: Machine, into: Collected) -> Stay:
    system = visit.system
    setup = setup_of(system, visit.model, machine)
    launch = system.launch(setup)
    client = Client(system, setup.port, launch.path)
    rows = prepare.rows()
    expected = cast(list[Expected], prepare.expected(visit.model))
    server = Running(launch, setup)
    try:
        server.start()
        if launch.ready:
            server.wait(lambda: client.is_ready(launch.ready), START_LIMIT_S)
        startup_s = server.wait(lambda: client.answers(rows[0]), START_LIMIT_S)
        client.check(expected, CLASSES)
        workers, threads = setup.workers, setup.threads
        if system.shape_said:
            workers, threads = system.shape_said(client.get(launch.ready))
        stay = replace(
            stay,
            startup_s=startup_s,
            idle_mb=server.usage().memory_mb,
            workers=workers,
            threads=threads,
        )
        with bodies_file([system.encode(row) for row in rows]) as bodies:
            load = _Loader(visit, launch.path, setup.port, bodies, server, machine.cores)
            load.warm_up()
            for connections, seconds in visit.seconds.items():
                _drain(client, rows[0])
                into.samples.append(load.sample(connections, seconds))
                stay = replace(stay, rss_mb=max(stay.rss_mb, server.usage().memory_mb))
        client.check(expected[:1], CLASSES)  # it must still be right after the load
    finally:
        server.stop()
    return stay


def _drain(client: Client, row: Row) -> None:
    """Waits until what the last load left in the queue is done: one more answer comes after it."""
    try:
        client.ask(row)
    except FAULTS as error:
        raise WrongAnswer(f"no answer after load: {type(error).__name__} {error}") from error
    time.sleep(0.3)


@dataclass
class _Loader:
    """Loads one server and notes what that cost it."""

    visit: Visit
    path: str
    port: int
    bodies: Path
    server: Running
    cores: int
    rate: float | None = None  # of the last measurement

    def warm_up(self) -> None:
        self.rate = self._load(WARM_UP_CONNECTIONS, WARM_UP_S).requests_per_s

    def sample(self, connections: int, seconds: float) -> Sample:
        used, busy = self.server.usage().cpu_s, _busy_s()
        own = _children_cpu_s()
        start = time.monotonic()
        load = self._load(connections, enough(seconds, connections, self.rate))
        self.rate = load.requests_per_s
        span = (time.monotonic() - start) * self.cores
        used = self.server.usage().cpu_s - used
        foreign = _busy_s() - busy - used - (_children_cpu_s() - own)
        return Sample(
            round=self.visit.round,
            system=self.visit.system.name,
            model=self.visit.model,
            connections=connections,
            requests_per_s=load.requests_per_s,
            p50_ms=load.p50_ms,
            p99_ms=load.p99_ms,
            errors=load.errors,
            cpu_s_per_1000=used / max(load.requests, 1) * 1000,
            foreign_cpu=min(1.0, max(0.0, foreign / span)),
            refused=load.reason(),
        )

    def _load(self, connections: int, seconds: float) -> Load:
        headers = self.visit.system.headers
        slow = self.visit.model != "constant"
        return measure(self.port, self.path, headers, self.bodies, connections, seconds, slow)


def _busy_s() -> float:
    """CPU seconds that all processes of the machine have used."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _children_cpu_s() -> float:
    """CPU seconds of the children of this process that have ended: the load generator's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
