"""The replicas of a running engine as an offline job sees them.

A job brings batches of its own making and wants an outcome for every row, whatever happens to
replicas. It does not know the online queue, and a composed function is just another replica.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from salver.definition import Handle
from salver.engine.dispatcher import HANG_GRACE_S
from salver.engine.pool import Pool
from salver.errors import DeadlineExceeded, QueueFull, ReplicaDied
from salver.lengths import Characters, Lengths
from salver.pipeline import joined
from salver.types import Batch, Failure, Outcome, Outcomes

TRIES = 2
CRASHED = Failure("replica_crashed", f"{TRIES} replicas ended while they held the row.")


class OfflineReplica(Protocol):
    """Predicts batches; never raises for a replica that died."""

    @property
    def concurrency(self) -> int:
        """Batches that may be under way at once."""
        ...

    @property
    def lengths(self) -> Lengths:
        """What measures its rows."""
        ...

    async def run(self, batch: Batch) -> Outcomes:
        """One outcome per row."""
        ...


class PoolReplica:
    """A pool for offline use: the identical batch is run again after a death, then halved.

    Running the identical batch keeps the output what it would have been, since floats depend on
    batch mates.

    Args:
        pool: The replicas.
        timeout_s: Seconds after which a replica that does not answer is replaced.
        lengths: What measures its rows.
    """

    def __init__(self, pool: Pool, timeout_s: float, lengths: Lengths) -> None:
        self.lengths = lengths
        self._pool = pool
        self._timeout_s = timeout_s
        # One batch waits for each that runs, so that a replica never waits for the job.
        self.concurrency = 2 * pool.size

    async def run(self, batch: Batch) -> Outcomes:
        """One outcome per row; a row whose replica dies every time is a failure of its own."""
        for _ in range(TRIES):
            try:
                return await self._pool.run(batch, self._timeout_s + HANG_GRACE_S)
            except ReplicaDied:
                continue
        if len(batch) == 1:
            return Outcomes(1, {}, {0: CRASHED})
        middle = len(batch) // 2
        return joined(await self.run(batch[:middle]), await self.run(batch[middle:]))


class ComposedReplica:
    """A composed function for offline use.

    Args:
        handle: The function's.
    """

    concurrency = 2
    lengths = Characters()

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def run(self, batch: Batch) -> Outcomes:
        """One outcome per row; a part's full queue is waited for, its deadline fails rows only."""
        while True:
            try:
                return _by_column(await self._handle.ask(batch, timeout_s=_NO_DEADLINE_S))
            except QueueFull as error:
                await asyncio.sleep(error.retry_after_s or 1)
            except DeadlineExceeded as error:
                late = error
                break
        if len(batch) == 1:
            return Outcomes(1, {}, {0: Failure(late.code, late.message)})
        middle = len(batch) // 2
        return joined(await self.run(batch[:middle]), await self.run(batch[middle:]))


_NO_DEADLINE_S = 24 * 3600.0


def _by_column(outcomes: list[Outcome]) -> Outcomes:
    columns = _columns([o.value or {} for o in outcomes])
    details = _columns([o.details or {} for o in outcomes])
    failures = {i: o.failure for i, o in enumerate(outcomes) if o.failure is not None}
    abstained = frozenset(i for i, o in enumerate(outcomes) if o.abstained)
    return Outcomes(len(outcomes), columns, failures, abstained, details)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
