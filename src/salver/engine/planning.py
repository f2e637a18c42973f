"""How many replicas, how many threads each, and how many rows at once.

Decisions only, from cores, memory and the times of a few batches: no clock, process or model is
touched here. What a user has ordered is never changed, only what was left open is filled in.

The numbers in capitals are what the engine was measured to cost and to hand out; they decide only
between settings that are close to each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from salver.options import DeploymentOptions

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # rows of the batches that are timed
DEFAULT_BATCH_SIZE = 8  # where nothing could be timed: right or nearly so for texts on a CPU
MIN_SIZES = 3  # with fewer sizes timed, nothing is known about what larger batches would gain
FEW = 8  # fewer rows than this serve only where they are clearly better
CLEARLY = 1.25
MANY = 64  # rows at once in a job where that is much faster than the default
MUCH = 1.5
TOLERANCE = 0.05  # of the best rows per second; a smaller batch answers sooner
MARGIN = 1.2  # of time for a batch, over what it took or should take
REPEATS = 5  # of one size, if time allows; the least time counts
WORTH_TOKENS_S = 1e-3  # of a row; to count its tokens takes some 70 us
BATCH_S = 1e-3  # what a batch costs a busy engine beside the model: frames, wake-ups, switches
ROUND_TRIP_S = 3e-4  # what a batch costs an idle engine beside the model
FRONT_S = 70e-6  # what a request of one row costs the front: 55 to 90 us, more where replicas work
NEARLY = 0.8  # of the most that front and replicas can do together
MEMORY_SHARE = 0.8  # of what is available


@dataclass(frozen=True, slots=True)
class Shared:
    """What the replicas of all deployments share.

    Attributes:
        cores: Cores of this machine.
        devices: Its GPUs.
        models: The options of each deployment with a model, and whether its replicas are processes.
    """

    cores: int
    devices: int
    models: Sequence[tuple[DeploymentOptions, bool]]

    @property
    def cores_each(self) -> int:
        """Cores of one deployment."""
        return max(1, self.cores // max(1, len(self.models)))

    @property
    def devices_each(self) -> int:
        """GPUs of one deployment that asks for any."""
        return self.devices // max(1, sum(options.num_gpus > 0 for options, _ in self.models))

    @property
    def replicas(self) -> int:
        """Replicas of all deployments together, before anything is measured."""
        return sum(most_replicas(options, is_own, self) for options, is_own in self.models)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known of the first replica.

    Attributes:
        seconds: By rows in a batch, the least time of one, seconds from asking to the answer.
        resident: Bytes that the replica holds; null if the system does not say.
        available: Bytes that are left for others; null if the system does not say.
        trouble: Why little or nothing was timed, for people.
    """

    seconds: Mapping[int, float] = field(default_factory=dict)
    resident: int | None = None
    available: int | None = None
    trouble: str = ""

    @property
    def is_worth_tokens(self) -> bool:
        """Whether a row takes so long that its tokens may be counted when it is queued."""
        return min((s / n for n, s in self.seconds.items()), default=math.inf) >= WORTH_TOKENS_S


@dataclass(frozen=True, slots=True)
class Plan:
    """How one deployment runs.

    Attributes:
        replicas: Loaded copies of the model.
        threads: Math threads of each; null where replicas are threads, which share the process's.
        max_batch_size: Most rows in one call.
        reason: Why, for people.
        other: What the other goal would run, for people; empty where it would run the same.
    """

    replicas: int
    threads: int | None
    max_batch_size: int
    reason: str = "as configured"
    other: str = ""

    def described(self, name: str, *, with_other: bool = True) -> str:
        """One line for people."""
        where = " in threads of this process" if self.threads is None else ""
        each = "" if self.threads is None else f" x {_counted(self.threads, 'thread')}"
        other = f"; {self.other}" if self.other and with_other else ""
        return (
            f"{name}: {_counted(self.replicas, 'replica')}{where}{each}, batches of up to "
            f"{_counted(self.max_batch_size, 'row')} ({self.reason}{other})"
        )

    def as_json(self) -> dict[str, Any]:
        """The numbers, for `/-/readyz`."""
        return {
            "num_replicas": self.replicas,
            "threads": self.threads,
            "max_batch_size": self.max_batch_size,
            "reason": self.reason,
        }


def first_plan(options: DeploymentOptions, is_own: bool, shared: Shared) -> Plan:
    """How the first replica starts, and the most that others may follow.

    Args:
        options: Of the deployment.
        is_own: Whether a replica is a process of its own.
        shared: What the deployments share.
    """
    replicas = most_replicas(options, is_own, shared)
    threads = threads_each(options, shared) if is_own else None
    size = options.max_batch_size or DEFAULT_BATCH_SIZE
    if options.num_replicas is not None or not is_own:
        return Plan(replicas, threads, size)
    other = _other(options, is_own, shared, replicas, threads)
    return Plan(replicas, threads, size, _what(options, is_own), other)


def most_replicas(options: DeploymentOptions, is_own: bool, shared: Shared) -> int:
    """As many as ordered; else what cores or devices allow, and one if latency is the goal."""
    if options.num_replicas is not None:
        return int(options.num_replicas)
    if not is_own or options.optimize_for == "latency":
        return 1  # threads of one process would share its interpreter lock and its math threads
    if options.num_gpus:
        return max(1, math.floor(shared.devices_each / options.num_gpus))
    return max(1, math.floor(shared.cores_each / (options.num_cpus or 1)))


def threads_each(options: DeploymentOptions, shared: Shared) -> int:
    """Math threads of a replica that is a process."""
    if options.num_cpus is not None:
        return max(1, math.floor(options.num_cpus))
    if options.num_replicas is not None or options.num_gpus:
        return max(1, shared.cores // max(1, shared.replicas))
    return shared.cores_each if options.optimize_for == "latency" else 1


def is_open(options: DeploymentOptions, is_own: bool) -> bool:
    """Whether anything is left to be chosen by a trial."""
    replicas_open = options.num_replicas is None and is_own and options.optimize_for != "latency"
    return options.max_batch_size is None or replicas_open


def sizes_to_time(options: DeploymentOptions) -> tuple[int, ...]:
    """Rows of the batches to time: never more than a model was said to take."""
    given = options.max_batch_size
    return SIZES if given is None else (given,)


def next_size(
    timed: Mapping[int, Sequence[float]], sizes: Sequence[int], left_s: float
) -> int | None:
    """The size to time next: a new one as long as it fits the time left, then the old ones again.

    Args:
        timed: Seconds of the batches so far, by size.
        sizes: All that are wanted, smallest first.
        left_s: Seconds left.

    Returns:
        A size, or null when it is enough.
    """
    left_s /= MARGIN
    if left_s <= 0:
        return None
    new = next((n for n in sizes if n not in timed), None)
    if new is not None:
        before = max(timed, default=None)
        if before is None or min(timed[before]) * new / before <= left_s:
            return new
    again = [n for n, times in timed.items() if len(times) < REPEATS and min(times) <= left_s]
    return min(again, key=lambda n: (len(timed[n]), n), default=None)


def settled(
    plan: Plan, options: DeploymentOptions, trial: Trial, shared: Shared, *, for_jobs: bool = False
) -> Plan:
    """The plan after the first replica was tried.

    Args:
        plan: What `first_plan` said.
        options: Of the deployment.
        trial: What was found.
        shared: What the deployments share.
        for_jobs: Whether rows come from files rather than from requests.
    """
    is_own = plan.threads is not None
    best = steady_batch_size if for_jobs else best_batch_size
    size = options.max_batch_size or best(trial.seconds)
    replicas, bound = plan.replicas, ""
    if options.num_replicas is None and not options.num_gpus:
        replicas = worth_having(plan.replicas, row_seconds(trial.seconds, size), shared.cores)
        bound = ", so that more would only take cores from the front" * (replicas < plan.replicas)
    fits = in_memory(trial.resident, trial.available, _rivals(shared))
    if options.num_replicas is None and fits is not None and fits < replicas:
        replicas, bound = fits, ", memory for no more"
        if plan.threads is not None and options.num_cpus is None and shared.cores_each // fits > 1:
            bound += f"; num_cpus={shared.cores_each // fits} would use the cores that are left"
    return Plan(
        replicas,
        plan.threads,
        size,
        f"{_what(options, is_own)}: {_shown(trial, size)}{bound}",
        _other(options, is_own, shared, replicas, plan.threads),
    )


def best_batch_size(seconds: Mapping[int, float]) -> int:
    """The smallest size that gives nearly the most rows per second.

    A free replica takes what waits, and of that only what goes together at the least cost, so a
    small bound is no quicker; a batch of a few rows was never much slower per row than a single
    one. What looks so is noise, unless it is large.

    Args:
        seconds: Time of a batch by its rows.
    """
    if len(seconds) < MIN_SIZES:
        return DEFAULT_BATCH_SIZE
    rates = {n: n / (s + BATCH_S) for n, s in seconds.items()}
    several = {n: rate for n, rate in rates.items() if n >= FEW}
    if not several:  # rows so slow that there was no time for more
        several = {FEW: rates[max(rates)]}
    if max(rates.values()) < CLEARLY * max(several.values()):
        rates = several
    enough = (1 - TOLERANCE) * max(rates.values())
    return min(n for n, rate in rates.items() if rate >= enough)


def steady_batch_size(seconds: Mapping[int, float]) -> int:
    """One of two sizes, so that every start on one machine is likely to choose the same.

    Floats depend on batch mates: a job that is run twice should give the same bytes twice.

    Args:
        seconds: Time of a batch by its rows.
    """
    if DEFAULT_BATCH_SIZE not in seconds or MANY not in seconds:
        return DEFAULT_BATCH_SIZE
    few, many = (n / (seconds[n] + BATCH_S) for n in (DEFAULT_BATCH_SIZE, MANY))
    return MANY if many > MUCH * few else DEFAULT_BATCH_SIZE


def row_seconds(seconds: Mapping[int, float], size: int) -> float | None:
    """Time of one row in a replica, seconds; null if nothing was timed."""
    if not seconds:
        return None
    n = size if size in seconds else max(seconds)
    return max(0.0, seconds[n] - ROUND_TRIP_S) / n


def worth_having(most: int, row_s: float | None, cores: int) -> int:
    """How many of `most` replicas the front can keep at work.

    A model so cheap that one replica nearly keeps up with the front gets no second one: it would
    take cores from the front, whose work is then the larger part.

    Args:
        most: Replicas that the cores allow.
        row_s: Time of one row in a replica, seconds; null if not known.
        cores: Cores that front and replicas share.
    """
    if row_s is None:
        return most
    together = min(1 / FRONT_S, cores / (row_s + FRONT_S))
    if row_s * together * NEARLY <= 1:
        return 1
    return min(most, math.ceil(row_s / FRONT_S))


def in_memory(resident: int | None, available: int | None, rivals: int) -> int | None:
    """How many replicas memory holds, the first one included; null if that is not known.

    Args:
        resident: Bytes of the first.
        available: Bytes left beside it.
        rivals: Deployments that share what is left.
    """
    if not resident or available is None:
        return None
    return 1 + int(available * MEMORY_SHARE / rivals / resident)


def _rivals(shared: Shared) -> int:
    return max(1, sum(options.num_replicas is None for options, _ in shared.models))


def _what(options: DeploymentOptions, is_own: bool) -> str:
    """What was chosen, and for which goal."""
    goal = f"chosen for {options.optimize_for}"
    if options.num_replicas is not None:
        return "batch size chosen"
    if options.max_batch_size is not None:
        return f"replicas {goal}"
    return goal if is_own else "batch size chosen"


def _shown(trial: Trial, size: int) -> str:
    """What was measured, in words."""
    if not trial.seconds:
        return f"not measured, {trial.trouble}"
    n = size if size in trial.seconds else max(trial.seconds)
    more = "" if n == size else ", no time to try more"
    return f"{_counted(n, 'row')} took {_milliseconds(trial.seconds[n])}{more}"


def _other(
    options: DeploymentOptions, is_own: bool, shared: Shared, replicas: int, threads: int | None
) -> str:
    """What the other goal would run, where that differs."""
    if options.num_replicas is not None or not is_own or options.num_gpus:
        return ""
    goal = "throughput" if options.optimize_for == "latency" else "latency"
    other = options.replace({"optimize_for": goal}, "the options")
    most, each = most_replicas(other, is_own, shared), threads_each(other, shared)
    if (most, each) == (replicas, threads):
        return ""
    return f"--optimize-for {goal} would run {'up to ' * (most > 1)}{most} x {each}"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n:,} {noun}s"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2g} ms" if seconds < 0.0995 else f"{seconds * 1e3:.0f} ms"


def common_size(plans: Iterable[Plan]) -> int:
    """Rows at once for a composed function: as many as the largest of the models takes."""
    return max([DEFAULT_BATCH_SIZE, *(plan.max_batch_size for plan in plans)])
