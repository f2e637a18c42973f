"""Asks one replica, with the model as it is or with a candidate, and takes the time.

A replica is what serves: a process of its own with all cores, the pipeline and the policies in it.
This module does not know what its answers are compared with.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from salver.definition import Deployment
from salver.engine.measuring import resident_bytes
from salver.engine.replica import Birth, ProcessReplica
from salver.errors import ReplicaDied, ReplicaStartFailed
from salver.lengths import Lengths
from salver.offline.results import batches
from salver.optimization.answers import Answers, answers_of
from salver.optimization.results import Speed
from salver.types import Batch, Outcomes

ROUNDS = 5
ROUND_S = 0.7  # of the original, for each of the two ways of asking
TIMEOUT_S = 120.0  # for a batch; machines that measure are often busy with other things, too
Groups = list[list[int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """All rows, put together in each of the ways in which they will be.

    Attributes:
        batch: The rows.
        ways: Indices of the rows of each batch, by the name of the way: "batched" by length,
            "single", and "shuffled", with any other rows as mates.
    """

    batch: Batch
    ways: Mapping[str, Groups]

    @staticmethod
    def of(batch: Batch, size: int, lengths: Lengths) -> Asked:
        """Args: the rows, how many of them make a batch, and what measures them."""
        order = np.random.default_rng(2).permutation(len(batch)).tolist()
        shuffled = [order[at : at + size] for at in range(0, len(order), size)]
        single = [[i] for i in range(len(batch))]
        return Asked(
            batch,
            {"batched": batches(batch, size, lengths), "single": single, "shuffled": shuffled},
        )


@dataclass
class Subject:
    """One replica under measurement; a context manager.

    Args:
        birth: What it loads.
        deployment: The same, as this process sees it.

    Attributes:
        seconds: Of all rows, by the way in which they were put together.
        first: What it said to the rows, one by one.
        tokenizer_file: See `salver.engine.replica.Ready`.
    """

    birth: Birth
    deployment: Deployment
    seconds: dict[str, float] = field(default_factory=dict)
    first: list[dict[str, Any] | None] = field(default_factory=list)
    tokenizer_file: str | None = None
    _load_s: float = 0.0

    def __post_init__(self) -> None:
        self._replica = ProcessReplica(self.birth, self.deployment)

    async def __aenter__(self) -> Subject:
        """Starts it.

        Raises:
            ReplicaStartFailed: If it does not load, or takes too long.
        """
        limit_s = self.deployment.options.startup_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                ready = await self._replica.start()
        except TimeoutError:
            self._replica.kill()
            raise ReplicaStartFailed(f"It was not ready after {limit_s:g} s.") from None
        self._load_s, self.tokenizer_file = ready.load_s, ready.tokenizer_file
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._replica.stop()

    async def answers(self, asked: Asked) -> list[Answers]:
        """What it says, once for each way in which rows are put together.

        Raises:
            ReplicaDied: If it ends, or a batch takes too long.
        """
        found = []
        for way, groups in asked.ways.items():
            begun = time.perf_counter()
            outcomes = [await self._run(asked.batch.take(group)) for group in groups]
            self.seconds[way] = time.perf_counter() - begun
            order = [i for group in groups for i in group]
            found.append(answers_of(outcomes, order))
            if way == "single":
                self.first = [one[0].value for one in outcomes]
        return found

    async def time(self, batch: Batch, groups: Groups) -> list[float]:
        """Seconds of each group."""
        taken = []
        for group in groups:
            rows = batch.take(group)
            begun = time.perf_counter()
            await self._run(rows)
            taken.append(time.perf_counter() - begun)
        return taken

    def has_ended(self) -> bool:
        """True when it can answer nothing any more."""
        return self._replica.has_ended()

    def resident_mb(self) -> float:
        """Memory of its process, 10^6 bytes; 0 where the system does not say."""
        return (resident_bytes(self._replica.pid) or 0) / 1e6

    @property
    def load_s(self) -> float:
        """Seconds until it was ready."""
        return self._load_s

    async def _run(self, batch: Batch) -> Outcomes:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._replica.run(batch)
        except TimeoutError:
            self._replica.kill()
            raise ReplicaDied(f"No answer within {TIMEOUT_S:g} s.") from None


@dataclass(frozen=True, slots=True)
class Compared:
    """Speed of a candidate beside the original's.

    Attributes:
        single: Ratio of rows per second, one row at a time: median over rounds.
        batched: The same in batches.
        speed: The candidate's own figures.
        original: Rows per second of the original meanwhile, in batches: median over rounds.
    """

    single: float
    batched: float
    speed: Speed
    original: float


async def compared(original: Subject, candidate: Subject, asked: Asked) -> Compared:
    """Asks both the same rows, in alternating rounds.

    Raises:
        ReplicaDied: If one of both ends, or a batch takes too long.
    """
    ratios: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    single: list[float] = []
    own: list[float] = []
    for way in ("single", "batched"):
        groups = _some(asked.ways[way], original.seconds[way])
        rows = sum(map(len, groups))
        own = []
        for _ in range(ROUNDS):
            before = sum(await original.time(asked.batch, groups))
            taken = await candidate.time(asked.batch, groups)
            ratios.setdefault(way, []).append(before / sum(taken))
            rates.setdefault(way, []).append(rows / sum(taken))
            own.append(rows / before)
            if way == "single":
                single += taken
    speed = Speed(
        single=statistics.median(rates["single"]),
        batched=statistics.median(rates["batched"]),
        p50_ms=statistics.median(single) * 1e3,
        load_s=candidate.load_s,
        resident_mb=candidate.resident_mb(),
    )
    return Compared(
        statistics.median(ratios["single"]),
        statistics.median(ratios["batched"]),
        speed,
        statistics.median(own),
    )


def _some(groups: Sequence[list[int]], seconds: float) -> Groups:
    """As many of the groups as take the original about a round, evenly from short to long rows."""
    step = max(1, round(seconds / ROUND_S))
    return list(groups[::step])
