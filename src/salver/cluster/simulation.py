"""What autoscaling will do with a trace of arrivals: replicas, queue and latency over time.

A discrete-event simulation with a clock of its own: requests arrive at random at the rates of the
trace, are routed to the less busy of two replicas (as Ray's router does: power of two choices,
Mitzenmacher 2001), are batched there, and take what batches were measured to take. Who decides
the number of replicas is an argument. It does not know Ray, files or pictures.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

TICK_S = 0.1  # between two decisions, as in Ray's controller

# Given the time, the mean of requests under way and the replicas there are: how many there are to be.
Decide = Callable[[float, float, int], int]


@dataclass(frozen=True)
class Load:
    """What is to be served, and how long it takes.

    Attributes:
        rates: Requests per second in each second of the trace.
        batch_s: Seconds of a batch by its rows, at least for one row.
        max_batch_size: Most requests in a batch.
        max_ongoing: Most requests that a replica holds; others wait for any replica.
        start_s: Seconds from the decision for a replica until it answers.
        look_back_s: Seconds over which requests under way are averaged.
    """

    rates: Sequence[float]
    batch_s: Mapping[int, float]
    max_batch_size: int
    max_ongoing: int
    start_s: float
    look_back_s: float

    def seconds_of(self, rows: int) -> float:
        """Time of a batch: between measured sizes in proportion, beyond them by the last step."""
        sizes = sorted(self.batch_s)
        if rows in self.batch_s or len(sizes) == 1:
            return self.batch_s.get(rows, self.batch_s[sizes[0]] * rows / sizes[0])
        at = min(max(bisect.bisect(sizes, rows), 1), len(sizes) - 1)
        low, high = sizes[at - 1], sizes[at]
        slope = (self.batch_s[high] - self.batch_s[low]) / (high - low)
        return max(0.0, self.batch_s[low] + slope * (rows - low))


@dataclass(frozen=True)
class Second:
    """What went on in one second of the trace.

    Attributes:
        rate: Requests that arrived.
        replicas: Those that answered, at its end.
        target: Those that were wanted, at its end.
        queued: Requests that waited for a batch, at its end.
        p99_s: Latency of those answered in it, 99th percentile, seconds; null if there were none.
    """

    rate: int
    replicas: int
    target: int
    queued: int
    p99_s: float | None


@dataclass(eq=False)
class _Replica:
    ready_at: float
    waiting: deque[float] = field(default_factory=deque)  # when each request arrived
    running: list[float] = field(default_factory=list)
    is_leaving: bool = False

    @property
    def ongoing(self) -> int:
        return len(self.waiting) + len(self.running)


class Simulation:
    """One run.

    Args:
        load: What arrives, and how long it takes.
        decide: How many replicas there are to be.
        replicas: How many there are at the start.
        seed: Of the arrivals and of the routing.
    """

    def __init__(self, load: Load, decide: Decide, replicas: int, seed: int = 0) -> None:
        self._load = load
        self._decide = decide
        self._random = random.Random(seed)
        self._replicas = [_Replica(ready_at=0.0) for _ in range(replicas)]
        self._target = replicas
        self._unrouted: deque[float] = deque()
        self._events: list[tuple[float, int, _Replica]] = []  # ends of batches
        self._order = itertools.count()  # of events at the same time
        self._samples: deque[tuple[float, int]] = deque()
        self._latencies: list[float] = []

    def run(self) -> list[Second]:
        """All seconds of the trace, in order."""
        seconds = []
        for second, rate in enumerate(self._load.rates):
            arrivals = self._arrivals(second, rate)
            self._latencies = []
            self._advance(second, arrivals)
            seconds.append(self._seen(len(arrivals), second + 1.0))
        return seconds

    def _arrivals(self, second: int, rate: float) -> list[float]:
        """Times of a Poisson process of this rate, by its exponential gaps."""
        times: list[float] = []
        at = float(second)
        while rate > 0 and (at := at + self._random.expovariate(rate)) < second + 1:
            times.append(at)
        return times

    def _advance(self, second: int, arrivals: Sequence[float]) -> None:
        ticks = [second + i * TICK_S for i in range(round(1 / TICK_S))]
        moments = heapq.merge(((t, 0) for t in ticks), ((t, 1) for t in arrivals))
        for now, kind in moments:
            self._finish(now)
            if kind:
                self._unrouted.append(now)
            else:
                self._scale(now)
            self._route(now)
        self._finish(second + 1.0)

    def _finish(self, now: float) -> None:
        """Ends the batches that are over by `now`, each at its own time."""
        while self._events and self._events[0][0] <= now:
            at, _, replica = heapq.heappop(self._events)
            self._latencies += [at - arrived for arrived in replica.running]
            replica.running = []
            self._route(at)
            self._start(replica, at)

    def _route(self, now: float) -> None:
        ready = [r for r in self._replicas if r.ready_at <= now and not r.is_leaving]
        while self._unrouted and ready:
            two = self._random.sample(ready, min(2, len(ready)))
            chosen = min(two, key=lambda r: r.ongoing)
            if chosen.ongoing >= self._load.max_ongoing:
                ready = [r for r in ready if r.ongoing < self._load.max_ongoing]
                continue
            chosen.waiting.append(self._unrouted.popleft())
            self._start(chosen, now)

    def _start(self, replica: _Replica, now: float) -> None:
        if replica.running or not replica.waiting:
            return
        rows = min(len(replica.waiting), self._load.max_batch_size)
        replica.running = [replica.waiting.popleft() for _ in range(rows)]
        end = now + self._load.seconds_of(rows)
        heapq.heappush(self._events, (end, next(self._order), replica))

    def _scale(self, now: float) -> None:
        self._samples.append((now, self._under_way()))
        while self._samples[0][0] < now - self._load.look_back_s:
            self._samples.popleft()
        mean = sum(n for _, n in self._samples) / len(self._samples)
        self._target = self._decide(now, mean, self._target)
        staying = [r for r in self._replicas if not r.is_leaving]
        for _ in range(self._target - len(staying)):
            self._replicas.append(_Replica(ready_at=now + self._load.start_s))
        # The youngest leave first, and answer what they hold.
        surplus = max(0, len(staying) - self._target)
        for replica in sorted(staying, key=lambda r: -r.ready_at)[:surplus]:
            replica.is_leaving = True
        self._replicas = [r for r in self._replicas if not r.is_leaving or r.ongoing]

    def _under_way(self) -> int:
        return len(self._unrouted) + sum(r.ongoing for r in self._replicas)

    def _seen(self, arrived: int, now: float) -> Second:
        self._latencies.sort()
        p99 = (
            self._latencies[math.ceil(0.99 * len(self._latencies)) - 1] if self._latencies else None
        )
        waiting = len(self._unrouted) + sum(len(r.waiting) for r in self._replicas)
        ready = sum(r.ready_at <= now and not r.is_leaving for r in self._replicas)
        return Second(arrived, ready, self._target, waiting, p99)
