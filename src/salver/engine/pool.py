"""Several replicas of one deployment: chooses a free one and replaces those that ended.

The pool does not know the queue. Rows that a replica held when it died are its caller's
business; a new replica is on its way by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from salver.engine.replica import Ready, Worker
from salver.errors import NotReady, ReplicaDied, ReplicaStartFailed
from salver.types import Batch, Outcomes

log = logging.getLogger("salver.pool")

BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)  # before the n-th restart in a row
PATIENCE = 3  # replicas in a row that end or do not start, before others are made instead
WATCH_S = 0.5  # how often replicas are looked at that ended without closing their socket

State = Literal["starting", "ready", "busy", "dead"]


@dataclass(eq=False)
class Slot:
    """A place for one replica, kept while replicas come and go.

    Attributes:
        index: Number of the place, which decides devices.
        worker: The replica there now.
        state: What it is doing.
        restarts: Replicas that ended here.
        failures: Of these, how many ended without one good batch since.
    """

    index: int
    worker: Worker
    state: State = "starting"
    restarts: int = 0
    failures: int = 0

    def described(self) -> dict[str, Any]:
        """State for people and `/-/readyz`."""
        return {"state": self.state, "pid": self.worker.pid, "restarts": self.restarts}


class Pool:
    """Replicas behind one interface.

    Args:
        name: Of the deployment, for logs.
        make: Makes the replica of a place.
        size: Number of replicas.
        startup_timeout_s: Seconds within which a replica must be ready.

    Attributes:
        examples: Golden examples as the first replica answered them.
        tokenizer_file: Where the replicas have their tokenizer, if they have one.
        was_ready: True once a replica has been ready, and is not on trial.
        on_free: Called when a replica became free.
        on_restart: Called when a replica ended and is replaced.
        fall_back: Called with the reason when no first replica could be started, or when one could
            not be replaced several times in a row; true if from now on `make` makes others, which
            are started instead.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], Worker],
        size: int,
        startup_timeout_s: float,
    ) -> None:
        self.name = name
        self.size = size
        self.slots: list[Slot] = []
        self.examples: list[dict[str, Any]] = []
        self.tokenizer_file: str | None = None
        self.was_ready = False
        self.on_free: Callable[[], None] = lambda: None
        self.on_restart: Callable[[], None] = lambda: None
        self.fall_back: Callable[[BaseException], bool] = lambda _reason: False
        self._make = make
        self._startup_timeout_s = startup_timeout_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()  # cancelled by stop(), unlike runs
        self._runs: set[asyncio.Task[Outcomes]] = set()
        self._stopping = False
        self._is_on_trial = False

    @property
    def healthy(self) -> int:
        """Replicas that are ready or at work."""
        return sum(slot.state in ("ready", "busy") for slot in self.slots)

    @property
    def idle(self) -> int:
        """Replicas that are free."""
        return sum(slot.state == "ready" for slot in self.slots)

    async def start(self) -> None:
        """Starts all replicas; returns when the first is ready.

        Raises:
            ReplicaStartFailed: If one fails before any is ready; all are ended then.
        """
        self.slots = [Slot(i, self._make(i)) for i in range(self.size)]
        await self._first_of(self.slots)
        self._spawn_task(self._watch())

    async def start_one(self) -> None:
        """Starts one replica, which answers `run` only, until `grow` says how many there will be.

        Raises:
            ReplicaStartFailed: If it fails.
        """
        self._is_on_trial = True
        self.slots = [Slot(0, self._make(0))]
        await self._first_of(self.slots)
        self._spawn_task(self._watch())

    def grow(self, size: int) -> None:
        """Ends the trial: requests are let in, and the other replicas of `size` start."""
        if self._stopping:
            return
        self._is_on_trial = False
        self.was_ready = True
        self.size = size
        for index in range(len(self.slots), size):
            slot = Slot(index, self._make(index))
            self.slots.append(slot)
            self._replace_if_failed(self._spawn_task(self._start(slot)), slot)

    async def _first_of(self, slots: list[Slot]) -> None:
        starts = {self._spawn_task(self._start(slot)): slot for slot in slots}
        done, pending = await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in done if task.exception() is not None]
        if failed and len(failed) == len(done):
            reason = failed[0].exception() or AssertionError()
            if self.fall_back(reason):
                await self._give_up(pending)
                for slot in slots:
                    slot.worker.kill()
                    slot.worker = self._make(slot.index)
                await self._first_of(slots)
                return
            await self.stop()
            raise reason
        for task in (*failed, *pending):
            self._replace_if_failed(task, starts[task])

    async def _give_up(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def acquire(self) -> Slot | None:
        """Takes a free replica, or null."""
        for slot in self.slots:
            if slot.state == "ready":
                slot.state = "busy"
                return slot
        return None

    def release(self, slot: Slot) -> None:
        """Gives a replica back that was taken."""
        if slot.state != "busy":
            return  # it died meanwhile
        slot.state = "ready"
        self._freed()

    def lost(self, slot: Slot) -> None:
        """Says that a replica ended, or must; another takes its place."""
        if slot.state == "dead" or self._stopping:
            return
        slot.state = "dead"
        slot.worker.kill()
        slot.restarts += 1
        slot.failures += 1
        self.on_restart()
        log.warning("A replica of %s ended (pid %d); starting another.", self.name, slot.worker.pid)
        self._spawn_task(self._restart(slot))

    async def run(self, batch: Batch, timeout_s: float | None = None) -> Outcomes:
        """Predicts on the next free replica; one that takes longer than `timeout_s` is replaced.

        Raises:
            ReplicaDied: If the replica ended instead of answering.
            NotReady: If the pool was stopped.
        """
        slot = await self._next_free()
        # A caller that is cancelled leaves its replica at work, which is free only when it is done.
        running = asyncio.get_running_loop().create_task(self._run_on(slot, batch, timeout_s))
        self._runs.add(running)
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    async def stop(self) -> None:
        """Ends all replicas."""
        self._stopping = True
        for free in self._waiting:
            if not free.done():
                free.set_result(None)  # they find out that there is nothing to wait for
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        living = [slot for slot in self.slots if slot.state in ("ready", "busy")]
        await asyncio.gather(*(slot.worker.stop() for slot in living))
        for slot in self.slots:
            if slot not in living:
                slot.worker.kill()
            slot.state = "dead"

    def _ended(self, running: asyncio.Task[Outcomes]) -> None:
        self._runs.discard(running)
        if not running.cancelled():
            running.exception()  # seen, also when its caller has left

    async def _run_on(self, slot: Slot, batch: Batch, timeout_s: float | None) -> Outcomes:
        try:
            async with asyncio.timeout(timeout_s if slot.worker.can_be_killed else None):
                outcomes = await slot.worker.run(batch)
            slot.failures = 0
            return outcomes
        except TimeoutError:
            self.lost(slot)
            raise ReplicaDied(f"No answer within {timeout_s} s.") from None
        except ReplicaDied:
            self.lost(slot)
            raise
        finally:
            self.release(slot)

    async def _start(self, slot: Slot) -> None:
        try:
            async with asyncio.timeout(self._startup_timeout_s):
                ready: Ready = await slot.worker.start()
        except TimeoutError:
            slot.worker.kill()
            raise ReplicaStartFailed(
                f"A replica of {self.name} was not ready after {self._startup_timeout_s:g} s. Load "
                "less in __init__, or raise startup_timeout_s."
            ) from None
        worker = slot.worker
        if worker.has_ended():
            raise ReplicaStartFailed(f"A replica of {self.name} ended right after it was loaded.")
        worker.on_end = lambda: self.lost(slot) if slot.worker is worker else None
        log.info("%s: replica %d ready in %.1f s", self.name, slot.index, ready.load_s)
        self.examples = self.examples or ready.examples
        self.tokenizer_file = ready.tokenizer_file
        slot.state = "ready"
        self.was_ready = not self._is_on_trial
        self._freed()

    async def _restart(self, slot: Slot) -> None:
        while True:
            await asyncio.sleep(BACKOFF_S[min(slot.failures - 1, len(BACKOFF_S) - 1)])
            slot.worker = self._make(slot.index)
            slot.state = "starting"
            try:
                return await self._start(slot)
            except Exception as error:  # noqa: BLE001 - a place is never given up
                slot.state = "dead"
                slot.failures += 1
                log.error("%s: replica %d did not start: %s", self.name, slot.index, error)
                if slot.failures > PATIENCE:
                    self.fall_back(error)

    def _replace_if_failed(self, task: asyncio.Task[Any], slot: Slot) -> None:
        def look(done: asyncio.Task[Any]) -> None:
            if not done.cancelled() and done.exception() is not None:
                log.error("%s: %s", self.name, done.exception())
                self.lost(slot)

        task.add_done_callback(look)

    async def _watch(self) -> None:
        # A child whose own children hold its socket open ends without an end of file.
        while True:
            await asyncio.sleep(WATCH_S)
            for slot in self.slots:
                if slot.state in ("ready", "busy") and slot.worker.has_ended():
                    self.lost(slot)

    async def _next_free(self) -> Slot:
        while not self._stopping:
            slot = self.acquire()
            if slot is not None:
                return slot
            free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(free)
            try:
                await free
            except asyncio.CancelledError:
                if free.done() and not free.cancelled():
                    self._freed()  # pass the turn on
                raise
        raise NotReady(f"{self.name} is shutting down. Start its service again.")

    def _freed(self) -> None:
        self.on_free()  # requests first: a job has no deadline
        while self._waiting:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                return

    def _spawn_task(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
