"""What was measured, put together: medians over rounds, ratios within a round, the A/A control.

Pure but for reading and writing the one JSON file. It does not know how anything was measured,
nor what the report makes of it.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.plan import CONTROL, CONTROL_OF, LIMITS

Json = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One system under one load, in one round."""

    round: int
    system: str
    model: str
    connections: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_s_per_1000: float
    foreign_cpu: float  # share of the machine that others used meanwhile
    refused: str = ""  # why these numbers do not count
    turn: int = 0  # within the round


@dataclass(frozen=True)
class Stay:
    """One system started, checked and stopped, in one round."""

    round: int
    system: str
    model: str
    startup_s: float = 0.0  # to the first answer
    idle_mb: float = 0.0  # after the check, before the load
    rss_mb: float = 0.0  # the most seen under load
    workers: int = 0
    threads: int = 0  # of each worker
    refused: str = ""  # why it gave no numbers


@dataclass(frozen=True)
class Loop:
    """The bare model in a loop, in one round: no server at all."""

    round: int
    model: str
    processes: int
    threads: int
    batch: int  # rows, sorted by length
    rows_per_s: float = 0.0  # of all processes together
    p50_ms: float = 0.0  # of one row at a time
    load_s: float = 0.0  # from the start of the process to the first answer
    idle_mb: float = 0.0  # of all processes, once they have answered
    rss_mb: float = 0.0  # of all of them, after the loop
    refused: str = ""


@dataclass
class Collected:
    """All that a run has measured so far."""

    samples: list[Sample] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)

    def rounds(self) -> int:
        """How many rounds have something in them."""
        return len({stay.round for stay in self.stays} | {loop.round for loop in self.loops})


def online(collected: Collected, versions: Mapping[str, str]) -> Json:
    """The measurements of a run as JSON objects, one per system, model and connections."""
    return {
        "rounds": collected.rounds(),
        "measurements": [*_measurements(collected, versions)],
        "bare": [*_loops(collected.loops)],
        "control": [*_controls(collected.samples)],
    }


Place = tuple[str, int, int, int]  # model, connections, round and turn


def bare_rates(collected: Collected) -> dict[Place, float]:
    """The bare limit of each model, number of connections, round and turn.

    The constant model is limited by the faster of the two bare servers, any other by the faster of
    the bare loops, which have no connections: theirs is the same for all numbers.
    """
    rates: dict[Place, float] = {}
    loops: dict[tuple[str, int], float] = {}
    for loop in collected.loops:
        if not loop.refused:
            key = (loop.model, loop.round)
            loops[key] = max(loops.get(key, 0.0), loop.rows_per_s)
    for sample in collected.samples:
        where = (sample.model, sample.connections, sample.round, sample.turn)
        if sample.model != "constant":
            if limit := loops.get((sample.model, sample.round)):
                rates[where] = limit
        elif sample.system in LIMITS and not sample.refused:
            rates[where] = max(rates.get(where, 0.0), sample.requests_per_s)
    return rates


def _measurements(collected: Collected, versions: Mapping[str, str]) -> Iterable[Json]:
    rates = bare_rates(collected)
    groups: dict[tuple[str, str, int], list[Sample]] = defaultdict(list)
    for sample in collected.samples:
        groups[sample.system, sample.model, sample.connections].append(sample)
    stays: dict[tuple[str, str], list[Stay]] = defaultdict(list)
    for stay in collected.stays:
        stays[stay.system, stay.model].append(stay)
    for (system, model), its_stays in stays.items():
        counts = sorted({n for name, m, n in groups if (name, m) == (system, model)})
        head = {"system": system, "version": versions.get(system, ""), "model": model}
        lost = refusal([*its_stays])
        if not counts:
            yield head | {"connections": None, "refused": lost or "nothing was measured"}
        for connections in counts:
            samples = groups[system, model, connections]
            reason = lost or refusal(samples)
            yield (
                head
                | {"connections": connections}
                | ({"refused": reason} if reason else _medians(samples, its_stays, rates))
            )


def _medians(
    samples: Sequence[Sample], stays: Sequence[Stay], rates: Mapping[Place, float]
) -> Json:
    ratios = [_ratio(sample, rates) for sample in samples]
    known = [ratio for ratio in ratios if ratio is not None]
    return {
        "requests_per_s": median(s.requests_per_s for s in samples),
        "p50_ms": median(s.p50_ms for s in samples),
        "p99_ms": median(s.p99_ms for s in samples),
        "errors": sum(s.errors for s in samples),
        "rss_mb": median(s.rss_mb for s in stays),
        "idle_mb": median(s.idle_mb for s in stays),
        "cpu_s_per_1000": median(s.cpu_s_per_1000 for s in samples),
        "startup_s": median(s.startup_s for s in stays),
        "workers": stays[-1].workers,
        "threads": stays[-1].threads,
        "ratio_to_bare": median(known) if known else None,
        "foreign_cpu": median(s.foreign_cpu for s in samples),
        "rounds": [
            {
                "round": s.round,
                "turn": s.turn,
                "requests_per_s": s.requests_per_s,
                "p50_ms": s.p50_ms,
                "p99_ms": s.p99_ms,
                "cpu_s_per_1000": s.cpu_s_per_1000,
                "ratio_to_bare": ratio,
            }
            for s, ratio in zip(samples, ratios, strict=True)
        ],
    }


def _ratio(sample: Sample, rates: Mapping[Place, float]) -> float | None:
    """To the bare limit of the same turn: what the machine did meanwhile cancels."""
    limit = rates.get((sample.model, sample.connections, sample.round, sample.turn))
    return sample.requests_per_s / limit if limit else None


def _loops(loops: Sequence[Loop]) -> Iterable[Json]:
    groups: dict[tuple[str, int, int, int], list[Loop]] = defaultdict(list)
    for loop in loops:
        groups[loop.model, loop.processes, loop.threads, loop.batch].append(loop)
    for (model, processes, threads, batch), group in groups.items():
        head = {"model": model, "processes": processes, "threads": threads, "batch": batch}
        if reason := refusal(group):
            yield head | {"refused": reason}
            continue
        yield head | {
            "rows_per_s": median(one.rows_per_s for one in group),
            "p50_ms": median(one.p50_ms for one in group),
            "load_s": median(one.load_s for one in group),
            "idle_mb": median(one.idle_mb for one in group),
            "rss_mb": median(one.rss_mb for one in group),
            "rounds": [asdict(one) for one in group],
        }


def refusal(group: Sequence[Sample] | Sequence[Stay] | Sequence[Loop]) -> str:
    """Why a row is no row of numbers: one bad round is enough."""
    return next((f"{one.refused} (round {one.round})" for one in group if one.refused), "")


def _controls(samples: Sequence[Sample]) -> Iterable[Json]:
    by_place: dict[tuple[str, int], dict[tuple[str, int, int], float]] = defaultdict(dict)
    for sample in samples:
        if sample.system in (CONTROL_OF, CONTROL) and not sample.refused:
            place = by_place[sample.model, sample.connections]
            place[sample.system, sample.round, sample.turn] = sample.requests_per_s
    for (model, connections), place in by_place.items():
        ratios: dict[int, list[float]] = defaultdict(list)
        for system, number, turn in place:
            twin = place.get((CONTROL, number, turn))
            if system == CONTROL_OF and twin:
                ratios[number].append(twin / place[system, number, turn])
        if ratios:
            of_rounds = [median(of_turns) for of_turns in ratios.values()]
            yield {"model": model, "connections": connections} | control(of_rounds)


def control(ratios: Sequence[float]) -> Json:
    """What a system measured against itself says about the noise of this run.

    Half of the spread between rounds, or the median's distance from 1 if that is more: a
    difference below it is none.
    """
    middle = median(ratios)
    half = (max(ratios) - min(ratios)) / 2
    return {
        "ratio": middle,
        "lowest": min(ratios),
        "highest": max(ratios),
        "no_difference_below": max(abs(middle - 1), half),
    }


def read(path: Path) -> Json:
    """The results file; empty if there is none yet."""
    if not path.exists():
        return {}
    document: Json = json.loads(path.read_text("utf-8"))
    return document


def write_part(path: Path, part: str, content: Json) -> None:
    """Replaces one part of the results file and leaves the others, all at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = read(path) | {part: content}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    os.replace(new, path)
