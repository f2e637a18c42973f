"""What the tests of this folder share: a loop whose time passes at once, and replicas to command."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from salver.engine.pool import Pool
from salver.engine.replica import Ready
from salver.errors import ReplicaDied, ReplicaStartFailed
from salver.testing import FakeClock
from salver.types import Batch, Field, Outcomes

Result = TypeVar("Result")
FIELDS = (Field("text", "string"),)


class InstantLoop(asyncio.SelectorEventLoop):
    """An event loop that moves its clock to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__(_InstantSelector(self.clock))

    def time(self) -> float:
        return self.clock()


class _InstantSelector(selectors.SelectSelector):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("the test waits for something that nothing will bring about")
        self._clock.advance(max(timeout, 0.0))
        return super().select(0)


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Runs a test on an `InstantLoop`."""
    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        return runner.run(coroutine)


async def settle(turns: int = 8) -> None:
    """Lets everything happen that needs no time."""
    for _ in range(turns):
        await asyncio.sleep(0)


def batch_of(*texts: str) -> Batch:
    """Rows of one text each."""
    return Batch(FIELDS, [(text,) for text in texts])


class FakeWorker:
    """A replica that starts, answers and dies when it is told to.

    Attributes:
        batches: What it was asked, oldest first.
        started: Set its result to let it become ready, or an exception to let that fail.
    """

    def __init__(self, pid: int, *, by_itself: bool = True, can_be_killed: bool = True) -> None:
        self.pid = pid
        self.can_be_killed = can_be_killed
        self.on_end: Callable[[], None] = lambda: None
        self.batches: list[Batch] = []
        self.started: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self.killed = self.stopped = self.ended = False
        self._answer: asyncio.Future[Outcomes] | None = None
        if by_itself:
            self.started.set_result(Ready())

    @property
    def is_busy(self) -> bool:
        return self._answer is not None and not self._answer.done()

    async def start(self) -> Ready:
        return await self.started

    def become_ready(self) -> None:
        """Ends its start well, unless it has ended already."""
        if not self.started.done():
            self.started.set_result(Ready())

    def run(self, batch: Batch) -> asyncio.Future[Outcomes]:
        assert not self.is_busy, "a replica was given a second batch before it answered the first"
        self._answer = asyncio.get_running_loop().create_future()
        self.batches.append(batch)
        if self.ended:
            self._answer.set_exception(ReplicaDied("ended"))
        return self._answer

    def has_ended(self) -> bool:
        return self.ended

    def kill(self) -> None:
        self.killed = True
        self.die()

    async def stop(self) -> None:
        self.stopped = True
        self.die()

    def answer(self, outcomes: Outcomes | None = None) -> None:
        """Answers its batch: each text in capitals, or what is given."""
        assert self._answer is not None
        if outcomes is None:
            texts = [row[0].upper() for row in self.batches[-1].rows]
            outcomes = Outcomes(len(texts), {"prediction": texts})
        self._answer.set_result(outcomes)

    def raise_error(self, error: Exception) -> None:
        """Fails its batch without ending."""
        assert self._answer is not None
        self._answer.set_exception(error)

    def die(self) -> None:
        """Ends like a process that was killed."""
        self.ended = True
        if not self.started.done():
            self.started.set_exception(ReplicaStartFailed("ended while loading"))
            self.started.exception()  # nobody may have asked yet
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ReplicaDied("ended"))
        self.on_end()

    @property
    def texts(self) -> list[list[str]]:
        """The texts of its batches."""
        return [[row[0] for row in batch.rows] for batch in self.batches]


class FakeWorkers:
    """Makes the replicas of a pool and remembers them all."""

    def __init__(self, **how: Any) -> None:
        self.how = how
        self.made: list[FakeWorker] = []
        self.places: list[int] = []

    def __call__(self, index: int) -> FakeWorker:
        self.places.append(index)
        self.made.append(FakeWorker(len(self.made) + 1, **self.how))
        return self.made[-1]

    def __getitem__(self, i: int) -> FakeWorker:
        return self.made[i]

    def pool(self, size: int, startup_timeout_s: float = 60.0) -> Pool:
        """A pool of them."""
        return Pool("Tagger", self, size, startup_timeout_s)
