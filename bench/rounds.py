"""The rounds: every system started, checked, loaded and stopped, in turn.

It joins the others: the plan says what, this does it. It does not know what a rival is, nor how
medians are made.
"""

import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import cast

import psutil

from bench import bare_loops, prepare
from bench.answers import FAULTS, Client, Expected, WrongAnswer
from bench.environments import EnvironmentFailed, python_of
from bench.load import Load, LoadFailed, bodies_file, measure
from bench.plan import CONTROL, WARM_UP_S, Loops, Plan, Step, Together, Visit, enough, shuffled
from bench.predictors import CLASSES
from bench.processes import Running, ServerFailed, free_port
from bench.results import Collected, Sample, Stay
from bench.systems import Row, Setup, System

START_LIMIT_S = 180.0
LOOK_S, SETTLE_LOOKS = 0.5, 16
RESTLESS = 0.05  # of a core
WARM_UP_CONNECTIONS = 64

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
    elif isinstance(step, Visit):
        with _Stand(step, machine, into) as stand:
            if stand.trying(stand.open) and stand.trying(stand.show):
                for connections in step.seconds:
                    stand.trying(partial(stand.load, connections, 0))
    else:
        _go_together(step, machine, into)


def _go_together(step: Together, machine: Machine, into: Collected) -> None:
    """First each system alone, which shows its start and its memory; then all in turns.

    One that is busy while nobody asks it would take the others' time, and is measured alone.
    """
    sound = []
    for visit in step.visits:
        if visit.system.name == CONTROL:  # is shown as its twin
            sound.append(visit)
            continue
        with _Stand(visit, machine, into) as stand:
            if not (stand.trying(stand.open) and stand.trying(stand.show)):
                continue
            if not stand.is_restless:
                sound.append(visit)
                continue
            for connections, turn in product(visit.seconds, range(step.turns)):
                stand.trying(partial(stand.load, connections, turn))
    with ExitStack() as stack:
        stands = [stack.enter_context(_Stand(visit, machine, into)) for visit in sound]
        stands = [stand for stand in stands if stand.trying(stand.start)]
        stands = [stand for stand in stands if stand.trying(stand.wait)]
        for stand in stands:
            stand.trying(stand.rest)
        for connections in step.visits[0].seconds:
            for turn in range(step.turns):
                for i in shuffled(len(stands), step.visits[0].round, connections, turn):
                    stands[i].trying(partial(stands[i].load, connections, turn))


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


class _Stand:
    """One system as a running server, and what is noted of it; ends it when it is left."""

    def __init__(self, visit: Visit, machine: Machine, into: Collected) -> None:
        self._visit = visit
        self._machine = machine
        self._into = into
        self._is_lost = False
        self.is_restless = False  # busy while nobody asks
        self._rate: float | None = None  # of the last measurement
        self._stack = ExitStack()

    def __enter__(self) -> "_Stand":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def trying(self, act: Callable[[], None]) -> bool:
        """Whether it went well; once something has not, nothing more is tried."""
        if self._is_lost:
            return False
        visit = self._visit
        reason = self._machine.uninstalled.get(visit.system.name)
        try:
            if not reason:
                act()
                return True
        except (ServerFailed, WrongAnswer, LoadFailed) as failure:
            reason = str(failure)
        self._is_lost = True
        stay = Stay(visit.round, visit.system.name, visit.model, refused=reason)
        self._into.stays.append(stay)
        return False

    def open(self) -> None:
        """Starts the server and checks all its answers."""
        self.start()
        self.wait()
        self._client.check(cast(list[Expected], prepare.expected(self._visit.model)), CLASSES)

    def start(self) -> None:
        """Starts the server; it is not ready yet."""
        system = self._visit.system
        setup = self._setup = setup_of(system, self._visit.model, self._machine)
        launch = self._launch = system.launch(setup)
        self._client = Client(system, setup.port, launch.path)
        self._server = Running(launch, setup)
        self._stack.callback(self._server.stop)
        self._server.start()
        rows = self._rows = prepare.rows()
        self._bodies = self._stack.enter_context(bodies_file([*map(system.encode, rows)]))

    def wait(self) -> None:
        """Waits for its first answer."""
        ready, first = self._launch.ready, self._rows[0]
        if ready:
            self._server.wait(lambda: self._client.is_ready(ready), START_LIMIT_S)
        self._startup_s = self._server.wait(lambda: self._client.answers(first), START_LIMIT_S)

    def show(self) -> None:
        """Notes its start and its memory, before and after a short load; it must be alone."""
        self.rest()
        idle_mb = self._server.usage().memory_mb
        setup, system = self._setup, self._visit.system
        workers, threads = setup.workers, setup.threads
        if system.shape_said:
            workers, threads = system.shape_said(self._client.get(self._launch.ready))
        self._measured(WARM_UP_CONNECTIONS, WARM_UP_S)
        self.rest()
        stay = Stay(
            self._visit.round,
            system.name,
            self._visit.model,
            startup_s=self._startup_s,
            idle_mb=idle_mb,
            rss_mb=max(idle_mb, self._server.usage().memory_mb),
            workers=workers,
            threads=threads,
        )
        self._into.stays.append(stay)

    def rest(self) -> None:
        """Waits until nothing is loaded any more, and notes if it never comes to rest.

        Workers may still be loading when the first of them answers.
        """
        self.is_restless = self.is_restless or not self._rests()

    def _rests(self) -> bool:
        used = self._server.usage().cpu_s
        for _ in range(SETTLE_LOOKS):
            time.sleep(LOOK_S)
            before, used = used, self._server.usage().cpu_s
            if used - before < RESTLESS * LOOK_S:
                return True
        return False

    def load(self, connections: int, turn: int) -> None:
        """Measures it once, and sees that it is still right after that."""
        visit = self._visit
        if self._rate is None:
            self._rate = self._measured(WARM_UP_CONNECTIONS, WARM_UP_S).requests_per_s
        _drain(self._client, self._rows[0])
        used, busy = self._server.usage().cpu_s, _busy_s()
        own = _children_cpu_s()
        start = time.monotonic()
        seconds = enough(visit.seconds[connections], connections, self._rate)
        load = self._measured(connections, seconds)
        self._rate = load.requests_per_s
        span = (time.monotonic() - start) * self._machine.cores
        used = self._server.usage().cpu_s - used
        foreign = _busy_s() - busy - used - (_children_cpu_s() - own)
        sample = Sample(
            round=visit.round,
            turn=turn,
            system=visit.system.name,
            model=visit.model,
            connections=connections,
            requests_per_s=load.requests_per_s,
            p50_ms=load.p50_ms,
            p99_ms=load.p99_ms,
            errors=load.errors,
            cpu_s_per_1000=used / max(load.requests, 1) * 1000,
            foreign_cpu=min(1.0, max(0.0, foreign / span)),
            refused=load.reason(),
        )
        self._into.samples.append(sample)
        expected = cast(list[Expected], prepare.expected(visit.model))
        self._client.check(expected[:1], CLASSES)

    def _measured(self, connections: int, seconds: float) -> Load:
        headers, path = self._visit.system.headers, self._launch.path
        slow = self._visit.model != "constant"
        return measure(self._setup.port, path, headers, self._bodies, connections, seconds, slow)


def _drain(client: Client, row: Row) -> None:
    """Waits until what the last load left in the queue is done: one more answer comes after it."""
    try:
        client.ask(row)
    except FAULTS as error:
        raise WrongAnswer(f"no answer after load: {type(error).__name__} {error}") from error
    time.sleep(0.3)


def _busy_s() -> float:
    """CPU seconds that all processes of the machine have used."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _children_cpu_s() -> float:
    """CPU seconds of the children of this process that have ended: the load generator's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
