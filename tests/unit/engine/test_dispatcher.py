"""The dispatcher: every row that is asked gets one outcome, whatever replicas do."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fakes import FIELDS, FakeWorker, FakeWorkers, batch_of, run, settle
from salver.engine.dispatcher import HANG_GRACE_S, MOST_ATTEMPTS, Dispatcher
from salver.engine.metrics import EngineMetrics
from salver.engine.pool import Pool
from salver.engine.replica import Ready
from salver.errors import DeadlineExceeded, NotReady, QueueFull, ReplicaStartFailed, TooManyRows
from salver.options import DeploymentOptions
from salver.types import Outcome, Outcomes


class Served:
    """A dispatcher over replicas to command, with its metrics."""

    def __init__(self, size: int = 1, workers: FakeWorkers | None = None, **options: Any) -> None:
        self.workers = workers or FakeWorkers()
        self.pool: Pool = self.workers.pool(size)
        self.engine_metrics = EngineMetrics()
        metrics = self.engine_metrics.of("Tagger", lambda: 0, lambda: 0)
        given = DeploymentOptions(**{"max_batch_size": 8, **options})
        self.dispatcher = Dispatcher("Tagger", FIELDS, given, self.pool, metrics)

    async def start(self) -> Served:
        await self.pool.start()
        await settle()
        return self

    def ask(self, *texts: str, timeout_s: float | None = None) -> asyncio.Task[list[Outcome]]:
        return asyncio.ensure_future(self.dispatcher.ask(batch_of(*texts), timeout_s))

    @property
    def latest(self) -> FakeWorker:
        return self.workers.made[-1]


def predictions(outcomes: list[Outcome]) -> list[str]:
    return [outcome["prediction"] for outcome in outcomes]


def test_the_batch_size_may_be_found_later() -> None:
    """What waits when the size is said goes together as it says."""

    async def scenario() -> None:
        served = await Served(max_batch_size=8).start()
        served.dispatcher.set_max_batch_size(2)
        asked = served.ask("a", "b", "c")
        await settle()
        assert [["a", "b"]] == served.latest.texts
        served.latest.answer()
        await settle()
        served.latest.answer()
        assert ["A", "B", "C"] == predictions(await asked)

    run(scenario())


def test_each_asker_gets_the_outcomes_of_its_rows() -> None:
    """Rows of several askers share a batch, and each gets its own back in order."""

    async def scenario() -> None:
        served = await Served().start()
        first, second = served.ask("a", "b"), served.ask("c")
        await settle()
        assert [["a", "b", "c"]] == served.latest.texts
        served.latest.answer()

        assert ["A", "B"] == predictions(await first)
        assert ["C"] == predictions(await second)
        await served.pool.stop()

    run(scenario())


class Digits:
    """The length of a row is the number that it is."""

    unit = "digits"

    def of(self, rows: Any) -> list[int]:
        return [int(text) for (text,) in rows]

    estimated = of


def test_rows_are_put_together_by_what_measures_them() -> None:
    """Neighbours are those of equal length in the new unit, whatever their characters."""

    async def scenario() -> None:
        served = await Served(max_batch_size=2).start()
        served.dispatcher.measure_by(Digits())
        asked = served.ask("10", "99", "11")
        await settle()
        assert [["10", "11"]] == served.latest.texts
        served.latest.answer()
        await settle()
        served.latest.answer()
        assert ["10", "99", "11"] == predictions(await asked)

    run(scenario())


def test_no_rows_are_no_question() -> None:
    """An empty batch is answered at once, without a replica."""

    async def scenario() -> None:
        served = Served()
        assert [] == await served.dispatcher.ask(batch_of())

    run(scenario())


def test_a_long_list_is_answered_in_several_batches() -> None:
    """A list larger than `max_batch_size` comes back whole and in order."""

    async def scenario() -> None:
        served = await Served(max_batch_size=2).start()
        asked = served.ask(*"abcde")
        for _ in range(3):
            await settle()
            served.latest.answer()
        assert ["A", "B", "C", "D", "E"] == predictions(await asked)
        assert [2, 2, 1] == [len(texts) for texts in served.latest.texts]
        await served.pool.stop()

    run(scenario())


def test_a_batch_waits_for_its_time() -> None:
    """With `batch_wait_timeout_s` a row is handed out when that has passed, not before."""

    async def scenario() -> None:
        served = await Served(batch_wait_timeout_s=2.0).start()
        asked = served.ask("a")
        await asyncio.sleep(1.9)
        assert [] == served.latest.texts
        await asyncio.sleep(0.2)
        assert [["a"]] == served.latest.texts
        served.latest.answer()
        await asked
        await served.pool.stop()

    run(scenario())


def test_before_a_replica_was_ready_questions_are_refused() -> None:
    """NotReady says that the model is loading and when to come again."""

    async def scenario() -> None:
        served = Served()
        with pytest.raises(NotReady, match="still loading") as caught:
            await served.ask("a")
        assert 1 == caught.value.retry_after_s

    run(scenario())


def test_a_full_queue_refuses_at_once() -> None:
    """QueueFull names the bound and the seconds until it should have drained."""

    async def scenario() -> None:
        served = await Served(max_queued_requests=3, max_batch_size=1).start()
        running = served.ask("a")
        await settle()
        waiting = served.ask("b", "c", "d")
        await settle()
        assert 3 == served.dispatcher.queued
        with pytest.raises(QueueFull, match="3 of 3 rows") as caught:
            await served.ask("e")
        assert caught.value.retry_after_s >= 1

        for _ in range(4):
            served.latest.answer()
            await settle()
        assert ["A", *"BCD"] == predictions(await running) + predictions(await waiting)
        await served.pool.stop()

    run(scenario())


def test_a_list_that_never_fits_is_too_long() -> None:
    """A list larger than the whole queue is not told to come again, but to be shorter."""

    async def scenario() -> None:
        served = await Served(max_queued_requests=3).start()
        with pytest.raises(TooManyRows, match=r"4 rows.* holds 3"):
            await served.ask(*"abcd")
        await served.pool.stop()

    run(scenario())


def test_a_row_whose_asker_left_never_reaches_the_model() -> None:
    """A cancelled asker's rows are dropped from the queue."""

    async def scenario() -> None:
        served = await Served(max_batch_size=1).start()
        running, leaver, last = served.ask("a"), served.ask("b"), served.ask("c")
        await settle()
        leaver.cancel()
        await settle()
        served.latest.answer()
        await settle()
        served.latest.answer()

        assert ["A", "C"] == predictions(await running) + predictions(await last)
        assert [["a"], ["c"]] == served.latest.texts
        await served.pool.stop()

    run(scenario())


def test_a_row_whose_deadline_passed_never_reaches_the_model() -> None:
    """Its asker hears DeadlineExceeded on time, and the row is dropped."""

    async def scenario() -> None:
        served = await Served(max_batch_size=1).start()
        loop = asyncio.get_running_loop()
        running, late = served.ask("a", timeout_s=60), served.ask("b", timeout_s=5)
        started = loop.time()
        with pytest.raises(DeadlineExceeded, match=r"5 s.*request_timeout_s"):
            await late
        assert 5 == pytest.approx(loop.time() - started, abs=0.1)
        served.latest.answer()
        assert ["A"] == predictions(await running)
        await settle()
        assert [["a"]] == served.latest.texts
        await served.pool.stop()

    run(scenario())


def test_a_hang_is_ended_after_the_deadline() -> None:
    """A replica that does not answer is replaced a second after the last deadline it holds."""

    async def scenario() -> None:
        served = await Served().start()
        hung = served.latest
        with pytest.raises(DeadlineExceeded):
            await served.ask("a", timeout_s=5)
        assert not hung.killed
        await asyncio.sleep(HANG_GRACE_S + 0.1)
        assert hung.killed
        asked = served.ask("b")
        await asyncio.sleep(0.01)
        assert [["b"]] == served.latest.texts, "the row of the hang was run again for nobody"
        served.latest.answer()
        assert ["B"] == predictions(await asked)
        await served.pool.stop()

    run(scenario())


def test_a_thread_that_hangs_is_left_alone() -> None:
    """What cannot be killed is not replaced, and answers when it comes back."""

    async def scenario() -> None:
        served = await Served(workers=FakeWorkers(can_be_killed=False)).start()
        with pytest.raises(DeadlineExceeded):
            await served.ask("a", timeout_s=5)
        await asyncio.sleep(100)
        assert 1 == len(served.workers.made)
        served.latest.answer()
        await settle()
        assert 1 == served.pool.idle
        await served.pool.stop()

    run(scenario())


def test_rows_of_a_dead_replica_are_run_again_alone() -> None:
    """The only replica dies with two rows: its successor gets them one at a time."""

    async def scenario() -> None:
        served = await Served().start()
        asked = served.ask("a", "b")
        await settle()
        served.latest.die()
        await asyncio.sleep(0.01)
        assert [["a"]] == served.latest.texts
        served.latest.answer()
        await settle()
        served.latest.answer()
        assert ["A", "B"] == predictions(await asked)
        assert [["a"], ["b"]] == served.latest.texts
        await served.pool.stop()

    run(scenario())


def test_suspects_wait_while_only_one_replica_is_healthy() -> None:
    """A row that may kill its replica does not run on the last one; other rows do."""

    async def scenario() -> None:
        served = await Served(size=2).start()
        served.workers.how = {"by_itself": False}
        suspect = served.ask("s")
        await settle()
        served.workers[0].die()
        await asyncio.sleep(0.01)
        other = served.ask("o")
        await settle()
        assert [["o"]] == served.workers[1].texts
        served.workers[1].answer()
        assert ["O"] == predictions(await other)
        await asyncio.sleep(1)
        assert not served.workers[1].is_busy
        assert not suspect.done()

        served.workers[2].started.set_result(Ready())
        await settle()
        busy = [w for w in served.workers.made if w.is_busy]
        assert [["s"]] == [w.texts[-1] for w in busy]
        busy[0].answer()
        assert ["S"] == predictions(await suspect)
        await served.pool.stop()

    run(scenario())


def test_a_row_that_kills_two_replicas_is_given_up() -> None:
    """Its outcome is `replica_crashed`; its neighbour gets an answer."""

    async def scenario() -> None:
        served = await Served().start()
        asked = served.ask("pill", "good")
        await settle()
        served.latest.die()
        await asyncio.sleep(0.2)
        assert ["pill"] == served.latest.texts[-1]
        served.latest.die()
        await asyncio.sleep(0.2)
        served.latest.answer()

        pill, good = await asked
        assert pill.failure is not None
        assert "replica_crashed" == pill.failure.code
        assert "GOOD" == good["prediction"]
        assert 3 == len(served.workers.made)
        await served.pool.stop()

    run(scenario())


def test_an_error_of_the_transport_fails_the_batch_and_keeps_the_replica() -> None:
    """Rows that could not be sent get `internal_error`, with the reason for the owner only."""

    async def scenario() -> None:
        served = await Served().start()
        asked = served.ask("a")
        await settle()
        served.latest.raise_error(TypeError("secret"))
        (outcome,) = await asked
        assert outcome.failure is not None
        assert "internal_error" == outcome.failure.code
        assert "secret" not in outcome.failure.message
        assert "secret" in str(outcome.failure.detail)
        assert 1 == served.pool.idle
        assert 1 == len(served.workers.made)
        await served.pool.stop()

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        Outcomes(2, {"prediction": ["A", "B"]}),
        Outcomes(4, {"prediction": ["A", "B", "C", "D"]}),
        Outcomes(3, {"prediction": ["A", "B"]}),
        Outcomes(3, {"prediction": ["A", "B", "C"]}, details={"novelty": [0.1]}),
    ],
)
def test_an_answer_that_cannot_be_told_apart_by_rows_fails_the_batch(answer: Outcomes) -> None:
    """All of its askers hear `internal_error` at once, none is given what may be another row's."""

    async def scenario() -> None:
        served = await Served().start()
        first, second = served.ask("a"), served.ask("b", "c")
        await settle()
        started = asyncio.get_running_loop().time()
        served.latest.answer(answer)
        outcomes = [*await first, *await second]
        assert ["internal_error"] * 3 == [o.failure.code for o in outcomes if o.failure]
        assert started == asyncio.get_running_loop().time()

        later = served.ask("d")
        await settle()
        served.latest.answer()
        assert ["D"] == predictions(await later)
        assert 1 == len(served.workers.made)
        await served.pool.stop()

    run(scenario())


def test_requests_go_before_the_batches_of_a_job() -> None:
    """A job that keeps the pool busy does not keep a request from the next free replica."""

    async def scenario() -> None:
        served = await Served().start()
        job = [asyncio.ensure_future(served.pool.run(batch_of(f"job{i}"))) for i in range(3)]
        await settle()
        asked = served.ask("request")
        for _ in range(4):
            await settle()
            served.latest.answer()
        await asyncio.gather(*job)
        assert ["REQUEST"] == predictions(await asked)
        assert ["request"] == served.latest.texts[1]
        await served.pool.stop()

    run(scenario())


def test_drain_waits_for_everybody_who_asked() -> None:
    """Both running and waiting rows are answered before it returns."""

    async def scenario() -> None:
        served = await Served(max_batch_size=1).start()
        asked = [served.ask("a"), served.ask("b")]
        await settle()
        draining = asyncio.ensure_future(served.dispatcher.drain())
        served.latest.answer()
        await settle()
        assert not draining.done()
        served.latest.answer()
        await draining
        assert [["A"], ["B"]] == [predictions(await one) for one in asked]
        await served.pool.stop()

    run(scenario())


def test_close_answers_everybody_who_waits() -> None:
    """Waiting rows and suspects hear NotReady, as does everybody who asks later."""

    async def scenario() -> None:
        served = await Served(max_batch_size=1).start()
        running, waiting = served.ask("a"), served.ask("b")
        await settle()
        served.dispatcher.close()
        with pytest.raises(NotReady, match="shutting down"):
            await waiting
        with pytest.raises(NotReady, match="shutting down"):
            await served.ask("c")
        served.latest.answer()
        assert ["A"] == predictions(await running)
        await served.pool.stop()

    run(scenario())


def test_rows_that_run_when_the_pool_is_stopped_are_answered() -> None:
    """Who waits for a row that shutdown cut short hears NotReady at once."""

    async def scenario() -> None:
        served = await Served().start()
        running = served.ask("a", timeout_s=60)
        await settle()
        started = asyncio.get_running_loop().time()
        served.dispatcher.close()
        await served.pool.stop()
        with pytest.raises(NotReady, match="shutting down"):
            await running
        assert 1 > asyncio.get_running_loop().time() - started

    run(scenario())


def test_batches_and_restarts_are_counted() -> None:
    """Metrics say how many rows went together and how often a replica was replaced."""

    async def scenario() -> None:
        served = await Served().start()
        asked = served.ask("a", "b")
        await settle()
        served.latest.answer()
        await asked
        value = served.engine_metrics.registry.get_sample_value
        assert 1 == value("salver_batch_rows_count", {"deployment": "Tagger"})
        assert 2 == value("salver_batch_rows_sum", {"deployment": "Tagger"})
        await served.pool.stop()

    run(scenario())


@dataclass
class World:
    """A dispatcher whose replicas live, die and load in the order that a test says."""

    served: Served
    asked: list[tuple[list[str], asyncio.Task[list[Outcome]]]] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    rows: int = 0

    def act(self, action: str, which: int) -> None:
        workers = self.served.workers.made
        if action == "ask":
            texts = [f"r{self.rows + i}" for i in range(1 + which % 5)]
            self.rows += len(texts)
            self.asked.append((texts, self.served.ask(*texts)))
        elif action == "leave" and self.asked:
            self.asked[which % len(self.asked)][1].cancel()
        elif action in ("answer", "die"):
            busy = [w for w in workers if w.is_busy]
            if busy:
                self.end(busy[which % len(busy)], action)
        elif action == "die idle":
            idle = [w for w in workers if not w.ended and w.started.done() and not w.is_busy]
            if idle:
                idle[which % len(idle)].die()
        elif action in ("load", "fail to load"):
            loading = [w for w in workers if not w.started.done()]
            if loading:
                self.load(loading[which % len(loading)], action)

    def end(self, worker: FakeWorker, action: str) -> None:
        if action == "answer":
            worker.answer()
            return
        self.deaths.update(worker.texts[-1])
        worker.die()

    def load(self, worker: FakeWorker, action: str) -> None:
        if action == "load":
            worker.become_ready()
        else:
            worker.started.set_exception(ReplicaStartFailed("no"))

    def check_suspects(self) -> None:
        """A row that saw a replica die runs alone, once, and not on the last healthy replica."""
        running = [w.texts[-1] for w in self.served.workers.made if w.is_busy]
        suspects = [texts for texts in running if any(self.deaths[t] for t in texts)]
        assert len(suspects) <= 1
        assert all(len(texts) == 1 for texts in suspects)

    async def finish(self) -> None:
        """Lets everything load and answer until nobody waits and no replica is at work."""
        for _ in range(400):
            at_work = any(worker.is_busy for worker in self.served.workers.made)
            if not at_work and all(task.done() for _, task in self.asked):
                return
            self.act("load", 0)
            self.act("answer", 0)
            await asyncio.sleep(0.05)
            self.check_suspects()
        raise AssertionError("somebody was never answered")


ACTIONS = ("ask", "ask", "answer", "answer", "die", "die idle", "leave", "load", "fail to load")


@given(
    size=st.integers(1, 3),
    batch=st.integers(1, 4),
    history=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.booleans()), max_size=40
    ),
)
@settings(max_examples=80, deadline=None)
def test_any_order_of_deaths_and_answers_leaves_no_row_behind(
    size: int, batch: int, history: list[tuple[str, int, bool]]
) -> None:
    """Everybody is answered once with its own rows; no row is tried on more than two replicas."""

    async def scenario() -> None:
        served = Served(size=size, max_batch_size=batch, request_timeout_s=1e6)
        await served.start()
        served.workers.how = {"by_itself": False}
        world = World(served)
        for action, which, settles in history:
            world.act(action, which)
            if settles:
                await asyncio.sleep(0.01)
                world.check_suspects()
        await settle()
        await world.finish()
        for texts, task in world.asked:
            if task.cancelled():
                continue
            for text, outcome in zip(texts, task.result(), strict=True):
                if outcome.failure is None:
                    assert text.upper() == outcome["prediction"]
                else:
                    assert "replica_crashed" == outcome.failure.code
                    assert MOST_ATTEMPTS == world.deaths[text]
        assert all(n <= MOST_ATTEMPTS for n in world.deaths.values())
        world.act("ask", 0)  # rows whose asker left are dropped on the way to the next batch
        await world.finish()
        assert 0 == served.dispatcher.queued
        await served.pool.stop()

    run(scenario())


@given(seconds=st.floats(0.5, 50), poison=st.integers(0, 7), size=st.integers(2, 3))
@settings(max_examples=20, deadline=None)
def test_a_poison_row_never_takes_the_pool_down(seconds: float, poison: int, size: int) -> None:
    """While a row kills every replica it meets, one replica is always there, and others answer."""

    async def scenario() -> None:
        served = await Served(size=size, max_batch_size=4, request_timeout_s=1e6).start()
        served.workers.how = {"by_itself": False}
        asked = served.ask(*[("poison" if i == poison else f"r{i}") for i in range(8)])
        loop = asyncio.get_running_loop()
        for _ in range(500):
            if asked.done():
                break
            await settle()
            for worker in list(served.workers.made):
                if worker.is_busy and "poison" in worker.texts[-1]:
                    worker.die()
                elif worker.is_busy:
                    worker.answer()
                elif not worker.started.done():
                    loop.call_later(seconds, worker.become_ready)
            assert served.pool.healthy >= 1, "the pool was down"
            await asyncio.sleep(seconds / 3)
        outcomes = await asked
        failed = [i for i, outcome in enumerate(outcomes) if not outcome.ok]
        assert [poison] == failed
        tries = sum("poison" in texts for w in served.workers.made for texts in w.texts)
        assert MOST_ATTEMPTS == tries
        await served.pool.stop()

    run(scenario())
