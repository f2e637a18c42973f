"""Joins the queue of a deployment with its pool: every row that is asked gets one outcome.

Rows that a replica held when it died are suspects: they are run again one at a time, and only
while another replica stays healthy, so that a row which kills its replica cannot take the pool
down. The dispatcher does not know HTTP, files or what a row means.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Mapping

from salver.engine.batching import Batcher, Entry, Full
from salver.engine.costs import Costs
from salver.engine.metrics import DeploymentMetrics
from salver.engine.pool import Pool, Slot
from salver.errors import DeadlineExceeded, NotReady, QueueFull, ReplicaDied, TooManyRows
from salver.lengths import Characters, Lengths
from salver.options import DeploymentOptions
from salver.types import Batch, Failure, Field, Outcome, Outcomes

log = logging.getLogger("salver.dispatcher")

MOST_ATTEMPTS = 2
MIN_QUEUE_ROWS = 1024
LEARN_SINGLES_EVERY = 8  # batches of one row tell little, and must stay quick
HANG_GRACE_S = 1.0  # after the last deadline of a batch, its replica is given up
CRASHED = Failure("replica_crashed", "The row was given up: two replicas ended while they held it.")


class Ticket:
    """What one asker waits for: an outcome per row.

    Args:
        size: Number of rows.
        future: Given the outcomes; whoever cancels it has left.
        timeout_s: Seconds the asker waits.
        deadline: When that is over, on the loop's clock.
        unanswered: Where the ticket stands until it is answered.
    """

    __slots__ = ("_left", "_outcomes", "_unanswered", "deadline", "future", "timeout_s")

    def __init__(
        self,
        size: int,
        future: asyncio.Future[list[Outcome]],
        timeout_s: float,
        deadline: float,
        unanswered: dict[Ticket, None],
    ) -> None:
        self.future = future
        self.timeout_s = timeout_s
        self.deadline = deadline
        self._outcomes: list[Outcome | None] = [None] * size
        self._left = size
        self._unanswered = unanswered
        unanswered[self] = None

    @property
    def gone(self) -> bool:
        """True when nobody waits any more; the rows of an asker that was cancelled are dropped."""
        return self.future.done()

    def fill(self, index: int, outcome: Outcome) -> None:
        """Answers one row; a late second answer is dropped."""
        if self.future.done() or self._outcomes[index] is not None:
            return
        self._outcomes[index] = outcome
        self._left -= 1
        if not self._left:
            self._unanswered.pop(self, None)
            self.future.set_result(self._outcomes)  # type: ignore[arg-type]

    def fail(self, error: Exception) -> None:
        """Answers the asker with an error in place of outcomes."""
        self._unanswered.pop(self, None)
        if not self.future.done():
            self.future.set_exception(error)


class Dispatcher:
    """The queue, the pool and the rows under way of one deployment; lives on one event loop.

    Args:
        name: Of the deployment.
        fields: Of its rows.
        options: How it is served.
        pool: Its replicas.
        metrics: Where to count.
    """

    def __init__(
        self,
        name: str,
        fields: tuple[Field, ...],
        options: DeploymentOptions,
        pool: Pool,
        metrics: DeploymentMetrics,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._name = name
        self._fields = fields
        self._options = options
        self._pool = pool
        self._metrics = metrics
        bound = options.max_queued_requests or MIN_QUEUE_ROWS
        self._queue_follows_rate = options.max_queued_requests is None
        self._lengths: Lengths = Characters()
        self._batcher = Batcher(options.max_batch_size, bound, options.batch_wait_timeout_s)
        self._suspects: deque[Entry] = deque()
        self._suspect_is_running = False
        self._rows_per_s = 0.0
        self._singles = 0
        self._unanswered: dict[Ticket, None] = {}
        self._clock: asyncio.TimerHandle | None = None  # one for all deadlines
        self._pump_is_due = False
        self._alarm: asyncio.TimerHandle | None = None  # when rows have waited for more long enough
        self._closed = False
        pool.on_free = self._pump_soon

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return len(self._batcher) + len(self._suspects)

    def ask(self, batch: Batch, timeout_s: float | None = None) -> asyncio.Future[list[Outcome]]:
        """See `salver.definition.Handle`."""
        if not len(batch):
            nothing: asyncio.Future[list[Outcome]] = self.loop.create_future()
            nothing.set_result([])
            return nothing
        timeout = self._options.request_timeout_s if timeout_s is None else timeout_s
        ticket = self._admit(batch, timeout)
        if self._clock is None or ticket.deadline < self._clock.when():
            self._watch(ticket.deadline)
        return ticket.future

    def close(self) -> None:
        """Refuses everything that waits; what runs is answered."""
        self._closed = True
        for entry in (*self._batcher.drain(), *self._suspects):
            self._refuse(entry)
        self._suspects.clear()

    async def drain(self) -> None:
        """Returns when everybody who has asked was answered."""
        while futures := [t.future for t in self._unanswered if not t.gone]:
            await asyncio.wait(futures)

    def _admit(self, batch: Batch, timeout: float) -> Ticket:
        if self._closed or not self._pool.was_ready:
            state = "shutting down" if self._closed else "still loading"
            raise NotReady(f"{self._name} is {state}. Try again later.")
        now = self.loop.time()
        if self._queue_follows_rate:
            self._batcher.limit = max(MIN_QUEUE_ROWS, int(self._rows_per_s * timeout))
        deadline = now + timeout
        ticket = Ticket(len(batch), self.loop.create_future(), timeout, deadline, self._unanswered)
        try:
            self._batcher.put(
                [
                    Entry(row, length, now, deadline, ticket, i)
                    for i, (row, length) in enumerate(
                        zip(batch.rows, self._lengths.estimated(batch.rows), strict=True)
                    )
                ]
            )
        except Full:
            del self._unanswered[ticket]
            raise self._refusal(len(batch)) from None
        self._pump_soon()
        return ticket

    def _refusal(self, rows: int) -> Exception:
        limit = self._batcher.limit
        if rows > limit:
            return TooManyRows(
                f"The list holds {rows} rows, but the queue of {self._name} holds {limit} "
                "(max_queued_requests). Send shorter lists."
            )
        seconds = math.ceil(len(self._batcher) / self._rows_per_s) if self._rows_per_s else 1
        wait = min(max(1, seconds), 60)
        return QueueFull(
            f"The queue of {self._name} is full ({len(self._batcher)} of {limit} rows). Try again "
            f"in {wait} s.",
            wait,
        )

    def _watch(self, deadline: float) -> None:
        # A timer for each request would cost more than all else that is done for it here.
        if self._clock is not None:
            self._clock.cancel()
        self._clock = self.loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._clock = None
        now = self.loop.time()
        for ticket in list(self._unanswered):
            if ticket.gone:  # its asker was cancelled
                del self._unanswered[ticket]
            elif ticket.deadline <= now:
                ticket.fail(
                    DeadlineExceeded(
                        f"No answer within {ticket.timeout_s:g} s. Try again later, or raise "
                        "request_timeout_s."
                    )
                )
        if self._unanswered:
            self._watch(min(ticket.deadline for ticket in self._unanswered))

    def _pump_soon(self) -> None:
        # Rows that arrive in the same turn of the loop are put together.
        if not self._pump_is_due:
            self._pump_is_due = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Gives what waits to free replicas, until one of the two runs out."""
        self._pump_is_due = False
        while (idle := self._pool.idle) and (entries := self._next(idle)):
            slot = self._pool.acquire()
            assert slot is not None
            self._dispatch(slot, entries)
        if not idle or not len(self._batcher):
            return
        ready_at = self._batcher.ready_at(self._pool.healthy - idle)
        if ready_at is not None and ready_at > self.loop.time():
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self.loop.call_at(ready_at, self._pump_soon)

    def _next(self, idle: int) -> list[Entry]:
        while self._suspects and not self._suspects_must_wait():
            entry = self._suspects.popleft()
            if not entry.waiter.gone:
                self._suspect_is_running = True
                return [entry]
        return self._batcher.take(self.loop.time(), idle, self._pool.healthy - idle)

    def _suspects_must_wait(self) -> bool:
        return self._suspect_is_running or self._pool.healthy < min(2, self._pool.size)

    def _dispatch(self, slot: Slot, entries: list[Entry]) -> None:
        started = time.perf_counter()  # the loop's clock may tick in milliseconds
        future = slot.worker.run(Batch(self._fields, [entry.row for entry in entries]))
        hang = None
        if slot.worker.can_be_killed:
            last = max([entry.deadline for entry in entries])
            hang = self.loop.call_at(last + HANG_GRACE_S, self._give_up, slot)

        def finish(done: asyncio.Future[Outcomes]) -> None:
            if hang is not None:
                hang.cancel()
            self._finish(slot, entries, done, started)

        future.add_done_callback(finish)

    def _give_up(self, slot: Slot) -> None:
        log.error(
            "%s: replica %d (pid %d) did not answer in time; it is replaced.",
            self._name,
            slot.index,
            slot.worker.pid,
        )
        self._pool.lost(slot)

    def _finish(
        self, slot: Slot, entries: list[Entry], done: asyncio.Future[Outcomes], started: float
    ) -> None:
        if entries[0].attempts:
            self._suspect_is_running = False
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or isinstance(error, ReplicaDied):
            self._pool.lost(slot)
            self._suspect(entries)
        elif error is not None:
            self._fail(entries, error)
        else:
            slot.failures = 0
            seconds = time.perf_counter() - started
            self._pool.release(slot)
            try:
                self._pump()  # the next batch first: the replica computes while answers are written
            finally:
                self._deliver(entries, done.result(), seconds)
            return
        self._pool.release(slot)
        self._pump_soon()

    def _deliver(self, entries: list[Entry], outcomes: Outcomes, seconds: float) -> None:
        try:
            answers = list(zip(entries, outcomes, strict=True))
        except Exception as error:  # noqa: BLE001 - of an answer of another size, no row is known
            self._fail(entries, error)
            return
        for entry, outcome in answers:
            entry.waiter.fill(entry.index, outcome)
        self._metrics.batch(len(entries), seconds)
        self._singles += len(entries) == 1
        if len(entries) > 1 or self._singles % LEARN_SINGLES_EVERY == 0:
            self._batcher.costs.observe([entry.length for entry in entries], seconds)
        rate = len(entries) / max(seconds, 1e-6) * max(self._pool.healthy, 1)
        self._rows_per_s = 0.8 * self._rows_per_s + 0.2 * rate if self._rows_per_s else rate

    def _fail(self, entries: list[Entry], error: BaseException) -> None:
        log.error("%s: a batch could not be run: %r", self._name, error)
        failed = Outcome(None, Failure("internal_error", "The row could not be run.", repr(error)))
        for entry in entries:
            entry.waiter.fill(entry.index, failed)

    def _refuse(self, entry: Entry) -> None:
        error = NotReady("The service is shutting down. Ask another instance, or again later.")
        entry.waiter.fail(error)

    def _suspect(self, entries: list[Entry]) -> None:
        for entry in entries:
            entry.attempts += 1
            if entry.waiter.gone:
                continue
            if self._closed:
                self._refuse(entry)
            elif entry.attempts >= MOST_ATTEMPTS:
                entry.waiter.fill(entry.index, Outcome(None, CRASHED))
            else:
                self._suspects.append(entry)

    def set_max_batch_size(self, rows: int) -> None:
        """Says how many rows go together, once that was measured."""
        self._batcher.max_batch_size = rows

    def measure_by(self, lengths: Lengths) -> None:
        """Says how the lengths of rows are measured; what was learned in another unit is void."""
        self._lengths = lengths
        self._batcher.costs = Costs()

    def learn(self, rows: Batch, seconds: Mapping[int, float]) -> None:
        """Learns from batches that were timed: the first n of `rows`, and how long they took."""
        lengths = self._lengths.of(rows.rows)
        for n, taken in seconds.items():
            self._batcher.costs.observe(lengths[:n], taken)
