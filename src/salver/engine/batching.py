"""Decides which waiting rows go together.

Batching is pull: somebody who has a free replica takes what is waiting, so an idle service adds
no delay and a busy one forms full batches by itself. The batcher has no clock, thread, socket or
logger (time is an argument) and does not know what a row means, only how long it is.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any, Protocol

from salver.engine.costs import Costs
from salver.types import Outcome

# Rows among which neighbours in length are sought, in batches: among more, a batch is padded less,
# but a row that is like no other waits longer. With the lengths of the example's texts, 256 askers
# and batches of eight rows, eight gave 98 % of the rows per second of 32 batches, and a 99th
# percentile of 1.3 instead of 1.5 times the mean wait.
WINDOW_BATCHES = 8
WINDOW = 256  # rows looked at, however large a batch is: few enough to scan
LESSON_EVERY = 64  # batches that are cut by their cost
LOADED = 4  # rows of a batch, on average, from which more rows are worth waiting for
NEWEST = 1 / 16  # weight of the newest batch in that average


class Waiter(Protocol):
    """Whoever asked for a row."""

    @property
    def gone(self) -> bool:
        """True when nobody waits for the answer any more."""
        ...

    def fill(self, index: int, outcome: Outcome) -> None:
        """Answers one of the rows."""
        ...

    def fail(self, error: Exception) -> None:
        """Answers all rows with an error."""
        ...


class Full(Exception):
    """The rows do not fit the bound of the queue; none of them was taken."""


@dataclass(slots=True, eq=False)
class Entry:
    """One waiting row.

    Attributes:
        row: Its values in field order.
        length: Of its texts, in any unit: the measure of likeness.
        arrived: When it came, in seconds of any monotonic clock.
        deadline: When its answer is no longer wanted, on the same clock.
        waiter: Who asked.
        index: Position of the row among those its waiter asked for.
        attempts: Replicas that died while they held it.
    """

    row: tuple[Any, ...]
    length: int
    arrived: float
    deadline: float
    waiter: Waiter
    index: int
    attempts: int = 0


Numbered = tuple[int, Entry]  # a row and the number of its arrival


class Batcher:
    """A bounded queue of rows that hands out batches.

    The oldest row is part of every batch that is taken, so no row is overtaken for ever; the
    others are the rows nearest to it in length, which saves padding, and only as many as cost less
    beside it than by themselves, once the times of batches tell what padding costs.

    Args:
        max_batch_size: Most rows in one batch.
        limit: Most rows waiting; may be changed while rows wait.
        wait_s: Seconds that a batch which is not full waits for more rows.

    Attributes:
        costs: What batches take; whoever runs them tells it.
    """

    def __init__(self, max_batch_size: int, limit: int, wait_s: float = 0.0) -> None:
        self.max_batch_size = max_batch_size
        self.limit = limit
        self.wait_s = wait_s
        self.costs = Costs()
        self._waiting: dict[int, Entry] = {}  # in order of arrival
        self._numbers = itertools.count()
        self._rows = 0.0  # of late batches, on average
        self._sorted = 0  # batches that were cut by their cost
        self._is_purged = False  # since the last change; a refusal under overload must stay cheap

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, entries: list[Entry]) -> None:
        """Adds all of `entries`, or none.

        Raises:
            Full: If they do not fit.
        """
        if len(self._waiting) + len(entries) > self.limit:
            self._forget_the_gone()
            if len(self._waiting) + len(entries) > self.limit:
                raise Full
        self._is_purged = False
        for entry in entries:
            self._waiting[next(self._numbers)] = entry

    def ready_at(self, busy: int = 0) -> float | None:
        """When the next batch may be taken, or null when nothing waits.

        Under load, a few rows are no reason for one more replica to begin a batch, if that costs
        more than the rows themselves: they go with the next rows, or with the next replica that
        has finished, but wait no longer than such a batch takes.

        Args:
            busy: Replicas that compute.
        """
        if not self._waiting:
            return None
        if len(self._waiting) >= self.max_batch_size:
            return -math.inf
        wait_s = self.wait_s
        if wait_s <= 0:
            if not busy or self._is_worth_a_batch(list(self._waiting.values())):
                return -math.inf
            wait_s = self.costs.fixed_s
        return next(iter(self._waiting.values())).arrived + wait_s

    def take(self, now: float, idle: int = 1, busy: int = 0) -> list[Entry]:
        """Removes the next batch; empty when nothing is ready.

        Rows whose waiter has gone or whose deadline has passed are dropped here, before they
        cost a prediction.

        Args:
            now: The time.
            idle: Free replicas, the one that takes included; what waits is spread over them,
                unless batches are to fill (`wait_s`), or cost more than their rows.
            busy: Replicas that compute.
        """
        self._is_purged = False
        window = self._wanted(now)
        ready = self.ready_at(busy)
        if ready is None or ready > now:
            return []
        taken = self._chosen(window, self._share(window, idle))
        for number, _ in taken:
            del self._waiting[number]
        self._rows += (len(taken) - self._rows) * NEWEST
        return [entry for _, entry in taken]

    def _share(self, window: list[Numbered], idle: int) -> int:
        """Rows of the next batch, as far as there are so many."""
        share = len(self._waiting)
        if self.wait_s <= 0 and idle > 1:
            share = math.ceil(share / idle)
            if not self._is_worth_a_batch([entry for _, entry in window[:share]]):
                share = len(self._waiting)
        return min(self.max_batch_size, share)

    def _is_worth_a_batch(self, entries: list[Entry]) -> bool:
        is_loaded = self._rows >= LOADED
        return not is_loaded or self.costs.is_worth_a_batch([e.length for e in entries])

    def _chosen(self, window: list[Numbered], size: int) -> list[Numbered]:
        """The oldest row, and those that go best with it."""
        window = window[: WINDOW_BATCHES * self.max_batch_size]
        if self.wait_s <= 0 and self.costs.is_worth_sorting([e.length for _, e in window]):
            self._sorted += 1
            # Now and then in order of arrival, or nothing more would be learnt about padding.
            is_lesson = self._sorted % LESSON_EVERY == 0
            return window[:size] if is_lesson else self._cheapest(window, size)
        if len(window) > size:
            length = window[0][1].length
            return heapq.nsmallest(
                size, window, key=lambda w: (w[0] != window[0][0], abs(w[1].length - length), w[0])
            )
        return window

    def _cheapest(self, window: list[Numbered], size: int) -> list[Numbered]:
        """The oldest row and those that go with it at the least cost, in order of arrival."""
        oldest = window[0]
        alike = sorted(window, key=lambda w: (w[1].length, w[0]))
        lengths = [entry.length for _, entry in alike]
        first, end = self.costs.best_run(lengths, alike.index(oldest), size)
        return sorted(alike[first:end], key=lambda w: w[0])

    def _forget_the_gone(self) -> None:
        if self._is_purged:
            return
        self._is_purged = True
        self._waiting = {n: entry for n, entry in self._waiting.items() if not entry.waiter.gone}

    def drain(self) -> list[Entry]:
        """Removes everything that waits."""
        entries = list(self._waiting.values())
        self._waiting.clear()
        return entries

    def _wanted(self, now: float) -> list[Numbered]:
        """The oldest rows that somebody waits for, once those before them that nobody does left."""
        most = max(WINDOW, self.max_batch_size) + 1
        window: list[Numbered] = []
        unwanted: list[int] = []
        for number, entry in self._waiting.items():
            if entry.waiter.gone or entry.deadline <= now:
                unwanted.append(number)
            elif len(window) < most:
                window.append((number, entry))
            else:
                break
        for number in unwanted:
            del self._waiting[number]
        return window
