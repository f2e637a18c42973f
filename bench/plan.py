"""What one run measures and how long it takes: systems, models, connections, seconds.

Pure: it starts nothing. Alternation is decided here too: the servers that start quickly run side by
side and are loaded one after the other in short turns, each turn in an order of its own, so that a
drift of the machine falls on all alike.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from bench.systems import MODELS, SYSTEMS, System

CONTROL_OF = "salver"
CONTROL = "salver (A/A)"
"""The same system measured twice in every round: what differs between the two is noise."""

LIMITS = ("bare-uvicorn", "bare-granian")
WARM_UP_S = 1.0
PAUSE_S = 0.6  # between two measurements, until the last is answered
LOOP_S = 3.0  # of one bare loop
LOOP_COST_S = 5.0  # to start it and load its model


@dataclass(frozen=True)
class ModelPlan:
    """How one model is measured.

    Attributes:
        seconds: Of one measurement, for each number of connections.
        turns: How often each is measured in a round.
        slow_rivals: Whether systems that take long to start are measured with it too.
    """

    seconds: dict[int, float]
    turns: int
    slow_rivals: bool


# With these, the whole takes about an hour on two cores. The two models that are measured most are
# those that decide: the server's own cost, and a real model. The heavy one and the GIL-bound one
# are measured where load is, at 16 and 64, and without the systems that are slow to start. A slow
# model needs more seconds: at 64 connections each answer of bert-base takes 3 s.
DEFAULT = {
    "constant": ModelPlan({1: 1, 16: 1, 64: 1, 256: 1}, turns=2, slow_rivals=True),
    "minilm": ModelPlan({1: 3, 16: 4, 64: 5, 256: 5}, turns=1, slow_rivals=True),
    "bert-base": ModelPlan({16: 5, 64: 8}, turns=1, slow_rivals=False),
    "sklearn": ModelPlan({16: 1.5, 64: 1.5}, turns=2, slow_rivals=False),
}
SLOW_START_S = 12.0
SLOW_ROUNDS = 2  # of systems that are slow to start, unless they are asked for by name


def enough(seconds: float, connections: int, rate: float | None) -> float:
    """Seconds of a measurement of a server that last answered at this rate.

    At first the queue is empty and latencies are short: four times the latency that so many
    connections must have (their number over the rate) makes that a small part. At most twice the
    time planned, lest the slowest systems take most of a run.
    """
    if not rate:
        return seconds
    return min(2 * seconds, max(seconds, 4 * connections / rate))


@dataclass(frozen=True)
class Visit:
    """One system started once and measured at each number of connections."""

    round: int
    model: str
    system: System
    seconds: dict[int, float]

    def __str__(self) -> str:
        return f"round {self.round}: {self.model}: {self.system.title}"

    @property
    def cost_s(self) -> float:
        """About how long it takes."""
        seconds = sum(one + PAUSE_S for one in self.seconds.values())
        return self.system.cost_s + WARM_UP_S + seconds


@dataclass(frozen=True)
class Together:
    """Several systems that run side by side and are measured in turns.

    Attributes:
        visits: The systems.
        turns: How often each is measured at each number of connections.
    """

    visits: tuple[Visit, ...]
    turns: int

    def __str__(self) -> str:
        first = self.visits[0]
        names = ", ".join(visit.system.title for visit in self.visits)
        return f"round {first.round}: {first.model}: {names}"

    @property
    def cost_s(self) -> float:
        """About how long it takes."""
        seconds = self.visits[0].seconds.values()
        turns = self.turns * len(self.visits) * sum(one + PAUSE_S for one in seconds)
        # Started one by one, and then again all at once.
        return turns + sum(1.4 * visit.system.cost_s + WARM_UP_S for visit in self.visits)


def shuffled(systems: int, *turn: int) -> list[int]:
    """An order for one turn: random, but the same in every run.

    Args:
        systems: How many there are.
        turn: Numbers that tell this turn from all others.
    """
    order = list(range(systems))
    random.Random(repr(turn)).shuffle(order)
    return order


@dataclass(frozen=True)
class Loops:
    """The bare loops of one model, in one round."""

    round: int
    model: str

    def __str__(self) -> str:
        return f"round {self.round}: {self.model}: the bare model in a loop"

    @property
    def cost_s(self) -> float:
        """About how long they take."""
        return 2 * (LOOP_S + LOOP_COST_S)


Step = Visit | Together | Loops


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        rounds: How often everything is measured.
        systems: In the order of the first round, the bare limits and the control included.
        models: Each with its connections and seconds.
        chosen: Names the caller asked for; such a system is measured with every model it can
            serve and in every round, however long it takes to start.
    """

    rounds: int
    systems: tuple[System, ...]
    models: dict[str, ModelPlan]
    chosen: frozenset[str] = field(default_factory=frozenset)

    def steps(self, number: int) -> Iterator[Step]:
        """Round `number` (from 1), model by model."""
        for model, plan in self.models.items():
            visits = [
                Visit(number, model, system, plan.seconds)
                for system in self.systems
                if self.measures(system, model, number)
            ]
            if number % 2 == 0:
                visits.reverse()
            # Those that were asked for are compared with each other: side by side, however slow.
            quick = tuple(
                v for v in visits if v.system.cost_s < SLOW_START_S or v.system.on_request
            )
            steps: list[Step] = [v for v in visits if v not in quick]
            if quick:
                steps.append(Together(quick, plan.turns))
            if model != "constant":
                steps.append(Loops(number, model))
            yield from reversed(steps) if number % 2 == 0 else steps

    def measures(self, system: System, model: str, number: int) -> bool:
        """Whether a system is measured with a model in a round."""
        if system.cost_s < SLOW_START_S or system.name in self.chosen:
            return model in system.models
        wanted = self.models[model].slow_rivals and number <= SLOW_ROUNDS
        return model in system.models and wanted

    @property
    def cost_s(self) -> float:
        """About how long the rounds take, downloads and trainings aside."""
        numbers = range(1, self.rounds + 1)
        return sum(step.cost_s for number in numbers for step in self.steps(number))


class UnknownName(Exception):
    """A name that is neither a system nor a model; the message lists those that are."""


def make(
    only: Sequence[str] = (),
    models: Sequence[str] = (),
    connections: Sequence[int] = (),
    rounds: int = 5,
    seconds: float | None = None,
) -> Plan:
    """The plan of a run; what is left out takes its default.

    Raises:
        UnknownName: For a system or a model that is not there.
    """
    _known("system", only, SYSTEMS)
    _known("model", models, MODELS)
    names = [
        name
        for name, system in SYSTEMS.items()
        if name in only or name in LIMITS or not (only or system.on_request)
    ]
    systems = [SYSTEMS[name] for name in names]
    if CONTROL_OF in names:
        # Last in odd rounds, first in even ones: as far from its twin as can be.
        systems.append(replace(SYSTEMS[CONTROL_OF], name=CONTROL, title="Salver (A/A)"))
    plans = {}
    for model in models or MODELS:
        default = DEFAULT[model]
        asked = connections or tuple(default.seconds)
        longest = max(default.seconds.values())
        plans[model] = replace(
            default, seconds={n: seconds or default.seconds.get(n, longest) for n in asked}
        )
    return Plan(rounds, tuple(systems), plans, frozenset(only))


def _known(kind: str, given: Sequence[str], known: Sequence[str] | dict[str, System]) -> None:
    if unknown := [name for name in given if name not in known]:
        raise UnknownName(f"no {kind} is called {', '.join(unknown)}; choose of {', '.join(known)}")
