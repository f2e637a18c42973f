"""Replicas as an offline job sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.fakes import FakeWorker, FakeWorkers, batch_of, run
from salver.engine.offline import TRIES, ComposedReplica, PoolReplica
from salver.errors import DeadlineExceeded, NotReady, QueueFull
from salver.lengths import Characters
from salver.types import Batch, Failure, Outcome, Outcomes


async def play(workers: FakeWorkers, poison: str, question: Any) -> Outcomes:
    """Answers every batch, and dies of those that hold `poison`."""
    task = asyncio.ensure_future(question)
    while not task.done():
        for worker in [w for w in workers.made if w.is_busy]:
            worker.die() if poison in worker.texts[-1] else worker.answer()
        await asyncio.sleep(0.05)
    return await task


def batches(workers: list[FakeWorker]) -> list[list[str]]:
    return [texts for worker in workers for texts in worker.texts]


def test_the_identical_batch_is_run_again_after_a_death() -> None:
    """Floats depend on batch mates, so that a death must not change who they are."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        replica = PoolReplica(pool, 30, Characters())
        asked = asyncio.ensure_future(replica.run(batch_of("a", "b")))
        await asyncio.sleep(0.01)
        workers[0].die()
        await asyncio.sleep(0.01)
        workers[1].answer()
        assert ["A", "B"] == list((await asked).columns["prediction"])
        assert [["a", "b"], ["a", "b"]] == batches(workers.made)
        assert 2 == replica.concurrency
        await pool.stop()

    run(scenario())


def test_a_poison_row_is_found_by_halving() -> None:
    """Only the row that kills its replica every time fails; the others are answered in order."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(2)
        await pool.start()
        replica = PoolReplica(pool, 30, Characters())
        outcomes = await play(workers, "d", replica.run(batch_of(*"abcdefg")))
        assert [True, True, True, False, True, True, True] == [o.ok for o in outcomes]
        assert "replica_crashed" == outcomes.failures[3].code
        assert list("ABC") == list(outcomes.columns["prediction"][:3])
        assert TRIES == batches(workers.made).count(["d"])
        await pool.stop()

    run(scenario())


def test_a_batch_that_hangs_is_given_up() -> None:
    """A hang counts as a death after the deadline of a request."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        outcomes = await PoolReplica(pool, 5, Characters()).run(batch_of("a"))
        assert "replica_crashed" == outcomes.failures[0].code
        assert [True, True] == [w.killed for w in workers.made[:2]]
        await pool.stop()

    run(scenario())


def test_a_job_ends_with_the_engine() -> None:
    """Batches that run or wait when the pool is stopped raise instead of waiting for ever."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        replica = PoolReplica(pool, 30, Characters())
        asked = [asyncio.ensure_future(replica.run(batch_of(text))) for text in "ab"]
        await asyncio.sleep(0.01)
        await pool.stop()
        for one in asked:
            with pytest.raises(NotReady, match="shutting down"):
                await one

    run(scenario())


class Part:
    """A handle that gives the answers and errors it was made with, in order."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def ask(self, batch: Batch, timeout_s: float | None = None) -> list[Outcome]:
        self.asked.append([row[0] for row in batch.rows])
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer or [Outcome({"prediction": row[0].upper()}) for row in batch.rows]


def test_a_composed_function_answers_by_column() -> None:
    """Columns that only some rows have are null elsewhere; failures and abstentions are kept."""
    failure = Failure("model_error", "It raised.")
    part = Part(
        [
            Outcome({"prediction": "a"}),
            Outcome(None, failure),
            Outcome({"why": "short"}, None, True),
        ]
    )

    outcomes = run(ComposedReplica(part).run(batch_of("a", "b", "c")))

    assert ["a", None, None] == list(outcomes.columns["prediction"])
    assert [None, None, "short"] == list(outcomes.columns["why"])
    assert {1: failure} == outcomes.failures
    assert frozenset({2}) == outcomes.abstained


def test_a_job_waits_for_a_full_queue() -> None:
    """A composed function whose part is busy is asked again when its queue has drained."""
    part = Part(QueueFull("full", 7), QueueFull("full", 7))

    async def scenario() -> None:
        started = asyncio.get_running_loop().time()
        outcomes = await ComposedReplica(part).run(batch_of("a"))
        assert ["A"] == list(outcomes.columns["prediction"])
        assert 14 == pytest.approx(asyncio.get_running_loop().time() - started, abs=0.1)

    run(scenario())


def test_rows_that_take_too_long_are_asked_in_halves() -> None:
    """A part's deadline fails the rows that need longer by themselves, not the job."""
    late = DeadlineExceeded("No answer within 30 s.")
    part = Part(late, None, late)

    outcomes = run(ComposedReplica(part).run(batch_of("a", "b")))

    assert [["a", "b"], ["a"], ["b"]] == part.asked
    assert "A" == outcomes[0]["prediction"]
    assert "deadline_exceeded" == outcomes.failures[1].code
