"""The pool: chooses a free replica, replaces those that ended, backs off from those that cannot."""

from __future__ import annotations

import asyncio
import gc

import pytest

from engine.fakes import FakeWorkers, batch_of, run, settle
from salver.engine.pool import BACKOFF_S, PATIENCE, WATCH_S, Pool
from salver.engine.replica import Ready
from salver.errors import ReplicaDied, ReplicaStartFailed


def states(pool: Pool) -> list[str]:
    return [slot.state for slot in pool.slots]


def test_start_returns_with_the_first_replica() -> None:
    """A pool is ready when one replica is; the others join when they are."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(2)
        starting = asyncio.ensure_future(pool.start())
        await settle()
        assert not starting.done()
        assert not pool.was_ready

        workers[1].started.set_result(Ready([{"input": {}, "output": {}}]))
        await starting
        assert ["starting", "ready"] == states(pool)
        assert [{"input": {}, "output": {}}] == pool.examples
        assert (1, 1, True) == (pool.healthy, pool.idle, pool.was_ready)

        workers[0].started.set_result(Ready())
        await settle()
        assert ["ready", "ready"] == states(pool)
        await pool.stop()

    run(scenario())


def test_start_fails_when_the_first_replica_fails() -> None:
    """A model that cannot be loaded is an error of start, and all other replicas are ended."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(2)
        starting = asyncio.ensure_future(pool.start())
        await settle()
        workers[0].started.set_exception(ReplicaStartFailed("no such file"))

        with pytest.raises(ReplicaStartFailed, match="no such file"):
            await starting

        assert workers[1].killed
        assert ["dead", "dead"] == states(pool)

    run(scenario())


def test_others_are_made_where_there_is_something_to_fall_back_on() -> None:
    """All replicas are: none of the first kind is left."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(2)
        reasons: list[str] = []

        def fall_back(reason: BaseException) -> bool:
            reasons.append(str(reason))
            return len(reasons) == 1

        pool.fall_back = fall_back
        starting = asyncio.ensure_future(pool.start())
        await settle()
        workers[0].started.set_exception(ReplicaStartFailed("the graph is damaged"))
        await settle()
        assert 4 == len(workers.made)
        assert workers[0].killed
        assert workers[1].killed
        workers[2].become_ready()
        workers[3].become_ready()
        await starting
        await settle()
        assert ["ready", "ready"] == states(pool)
        assert ["the graph is damaged"] == reasons
        await pool.stop()

    run(scenario())


def test_a_fallback_that_fails_too_is_an_error() -> None:
    """It is not tried for ever."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(1)
        pool.fall_back = lambda _reason: len(workers.made) == 1
        starting = asyncio.ensure_future(pool.start())
        for worker in range(2):
            await settle()
            workers[worker].started.set_exception(ReplicaStartFailed(f"number {worker}"))
        with pytest.raises(ReplicaStartFailed, match="number 1"):
            await starting

    run(scenario())


def test_a_second_replica_that_fails_at_start_is_tried_again() -> None:
    """Once one replica is ready, another that does not start is not fatal."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(2)
        starting = asyncio.ensure_future(pool.start())
        await settle()
        workers[0].started.set_result(Ready())
        await starting
        workers[1].started.set_exception(ReplicaStartFailed("out of memory"))
        await asyncio.sleep(0.01)

        assert [0, 1, 1] == workers.places
        workers[2].started.set_result(Ready())
        await settle()
        assert ["ready", "ready"] == states(pool)
        await pool.stop()

    run(scenario())


def test_a_replica_that_takes_too_long_to_load_is_ended() -> None:
    """`startup_timeout_s` bounds the start, and the message names it."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        with pytest.raises(ReplicaStartFailed, match=r"after 5 s.*startup_timeout_s"):
            await workers.pool(1, startup_timeout_s=5).start()
        assert workers[0].killed

    run(scenario())


def test_a_lost_replica_is_replaced_once() -> None:
    """However many notice that a replica ended, it is replaced once and counted once."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(2)
        restarts: list[int] = []
        pool.on_restart = lambda: restarts.append(1)
        await pool.start()
        await settle()
        slot = pool.slots[1]
        pool.lost(slot)
        pool.lost(slot)
        assert workers[1].killed
        assert 1 == pool.healthy
        await asyncio.sleep(0.01)

        assert ["ready", "ready"] == states(pool)
        assert [0, 1, 1] == workers.places
        assert [1] == restarts
        described = {"state": "ready", "pid": 3, "restarts": 1}
        assert described == slot.described()
        await pool.stop()

    run(scenario())


@pytest.mark.parametrize("notices", [True, False])
def test_an_idle_replica_that_ends_is_noticed(notices: bool) -> None:
    """At once by its socket, and within `WATCH_S` if something else holds its socket open."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        if notices:
            workers[0].die()
            assert "dead" == pool.slots[0].state
            await asyncio.sleep(0.01)
        else:
            workers[0].ended = True
            await asyncio.sleep(WATCH_S * 1.1)

        assert 2 == len(workers.made)
        assert "ready" == pool.slots[0].state
        await pool.stop()

    run(scenario())


def test_the_end_of_an_old_replica_does_not_touch_the_new_one() -> None:
    """A place's present replica is not replaced because a former one was heard of late."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        pool.lost(pool.slots[0])
        await asyncio.sleep(0.01)
        workers[0].on_end()

        assert "ready" == pool.slots[0].state
        assert 2 == len(workers.made)
        await pool.stop()

    run(scenario())


def test_restarts_that_fail_back_off() -> None:
    """The waits between restarts grow as `BACKOFF_S` says, and stay at its last."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        loop = asyncio.get_running_loop()
        workers.how = {"by_itself": False}
        pool.lost(pool.slots[0])
        waits = []
        for n in range(1, len(BACKOFF_S) + 3):
            before = loop.time()
            while len(workers.made) == n:  # noqa: ASYNC110 - the loop's time is not real
                await asyncio.sleep(0.01)
            waits.append(loop.time() - before)
            workers[n].started.set_exception(ReplicaStartFailed("cannot load"))

        wanted = [*BACKOFF_S, BACKOFF_S[-1], BACKOFF_S[-1]]
        assert wanted == pytest.approx(waits, abs=0.05)
        await pool.stop()

    run(scenario())


def test_any_error_of_a_restart_is_one_more_failure() -> None:
    """A place is never given up, whatever went wrong while its replica was made."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        workers.how = {"by_itself": False}
        pool.lost(pool.slots[0])
        await asyncio.sleep(0.01)
        workers.how = {}
        workers[1].started.set_exception(OSError("too many open files"))
        await asyncio.sleep(1)

        assert "ready" == pool.slots[0].state
        await pool.stop()

    run(scenario())


def test_a_batch_runs_on_a_free_replica() -> None:
    """`run` waits for a free replica and gives it back."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        first = asyncio.ensure_future(pool.run(batch_of("a")))
        second = asyncio.ensure_future(pool.run(batch_of("b")))
        await settle()
        assert [["a"]] == workers[0].texts
        workers[0].answer()
        assert "A" == (await first)[0]["prediction"]
        await settle()
        workers[0].answer()
        assert "B" == (await second)[0]["prediction"]
        assert 1 == pool.idle
        await pool.stop()

    run(scenario())


def test_a_batch_of_a_replica_that_dies_raises() -> None:
    """`run` says so with ReplicaDied, and another replica is on its way."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        running = asyncio.ensure_future(pool.run(batch_of("a")))
        await settle()
        workers[0].die()
        with pytest.raises(ReplicaDied):
            await running
        await asyncio.sleep(0.01)
        assert 2 == len(workers.made)
        assert "ready" == pool.slots[0].state
        await pool.stop()

    run(scenario())


def test_a_batch_that_hangs_costs_its_replica() -> None:
    """After `timeout_s` a replica that can be killed is, and the batch counts as died."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        with pytest.raises(ReplicaDied, match="3 s"):
            await pool.run(batch_of("a"), timeout_s=3)
        assert workers[0].killed
        await pool.stop()

    run(scenario())


def test_a_replica_that_cannot_be_killed_is_waited_for() -> None:
    """A thread that takes long is not replaced, since it would go on beside its successor."""

    async def scenario() -> None:
        workers = FakeWorkers(can_be_killed=False)
        pool = workers.pool(1)
        await pool.start()
        running = asyncio.ensure_future(pool.run(batch_of("a"), timeout_s=3))
        await asyncio.sleep(100)
        assert not running.done()
        workers[0].answer()
        assert "A" == (await running)[0]["prediction"]
        await pool.stop()

    run(scenario())


@pytest.mark.parametrize("its_turn_has_come", [False, True])
def test_a_cancelled_wait_passes_its_turn_on(its_turn_has_come: bool) -> None:
    """Nobody waits for a free replica because the one before left the line."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        running, leaver, last = (asyncio.ensure_future(pool.run(batch_of(t))) for t in "abc")
        await settle()
        if its_turn_has_come:  # between being told of the free replica and taking it
            loop = asyncio.get_running_loop()
            pool.on_free = lambda: loop.call_soon(leaver.cancel)
        else:
            leaver.cancel()
        workers[0].answer()
        await running
        await settle()
        assert leaver.cancelled()
        assert [["a"], ["c"]] == workers[0].texts
        workers[0].answer()
        assert "C" == (await last)[0]["prediction"]
        await pool.stop()

    run(scenario())


def test_a_replica_whose_asker_left_is_free_when_it_is_done() -> None:
    """A cancelled batch goes on in its replica, which gets no second one beside it."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        leaver, last = (asyncio.ensure_future(pool.run(batch_of(t), timeout_s=3)) for t in "ab")
        await settle()
        leaver.cancel()
        await settle()
        assert leaver.cancelled()
        assert [["a"]] == workers[0].texts
        assert 0 == pool.idle

        workers[0].answer()
        await settle()
        assert [["a"], ["b"]] == workers[0].texts
        last.cancel()
        await asyncio.sleep(3.1)
        assert workers[0].killed, "a hang is ended, also when nobody waits for it any more"
        assert 1 == pool.idle
        await pool.stop()

    run(scenario())


def test_a_job_does_not_keep_requests_waiting() -> None:
    """A free replica is offered to the queue of requests before it goes to a job's batch."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        offered: list[int] = []
        pool.on_free = lambda: offered.append(pool.idle)
        first, second = (asyncio.ensure_future(pool.run(batch_of(t))) for t in "ab")
        await settle()
        workers[0].answer()
        await first
        assert [1] == offered
        await settle()
        workers[0].answer()
        await second
        await pool.stop()

    run(scenario())


def test_stop_ends_everything() -> None:
    """Ready replicas are stopped, loading ones killed, and nothing is restarted afterwards."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(2)
        await pool.start()
        await settle()
        workers.how = {"by_itself": False}
        pool.lost(pool.slots[1])
        await asyncio.sleep(0.01)
        await pool.stop()
        await asyncio.sleep(100)

        assert workers[0].stopped
        assert workers[2].killed
        assert ["dead", "dead"] == states(pool)
        assert 3 == len(workers.made)

    run(scenario())


def test_a_replica_on_trial_answers_only_who_tries_it() -> None:
    """One replica starts; requests are let in, and the others start, when the trial is over."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(4)
        starting = asyncio.ensure_future(pool.start_one())
        await settle()
        workers[0].become_ready()
        await starting
        assert ["ready"] == states(pool)
        assert not pool.was_ready

        tried = asyncio.ensure_future(pool.run(batch_of("a")))
        await settle()
        workers[0].answer()
        assert ["A"] == (await tried).columns["prediction"]

        pool.grow(2)
        assert (True, 2, ["ready", "starting"]) == (pool.was_ready, pool.size, states(pool))
        await settle()
        workers[1].become_ready()
        await settle()
        assert ["ready", "ready"] == states(pool)
        await pool.stop()

    run(scenario())


def test_a_trial_that_hangs_keeps_its_replica_busy() -> None:
    """Nobody waits for it, no request goes there, and the hang is ended in its time."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(2)
        await pool.start_one()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await pool.run(batch_of("a"), timeout_s=5)
        pool.grow(2)
        await settle()
        assert ["busy", "ready"] == states(pool)
        await asyncio.sleep(6)
        assert ["ready", "ready"] == states(pool)
        assert 3 == len(workers.made)
        await pool.stop()

    run(scenario())


def test_a_replica_that_dies_on_trial_is_replaced() -> None:
    """The pool goes on as if a request had done it."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start_one()
        tried = asyncio.ensure_future(pool.run(batch_of("a")))
        await settle()
        workers[0].die()
        with pytest.raises(ReplicaDied):
            await tried
        pool.grow(1)
        await asyncio.sleep(0.01)
        assert (["ready"], 1) == (states(pool), pool.slots[0].restarts)
        await pool.stop()

    run(scenario())


def test_a_trial_that_cannot_start_is_an_error_of_start() -> None:
    """As with any first replica; and a pool that was stopped does not grow."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(2)
        starting = asyncio.ensure_future(pool.start_one())
        await settle()
        workers[0].started.set_exception(ReplicaStartFailed("no such file"))
        with pytest.raises(ReplicaStartFailed, match="no such file"):
            await starting
        pool.grow(2)
        assert ["dead"] == states(pool)

    run(scenario())


def test_a_run_that_nobody_waits_for_ends_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """A trial that was given up and then fails is no news: its replica's end was logged."""

    async def scenario() -> None:
        workers = FakeWorkers()
        pool = workers.pool(1)
        await pool.start()
        asking = asyncio.ensure_future(pool.run(batch_of("a")))
        await settle()
        asking.cancel()
        await settle()
        workers[0].die()
        await settle()
        await pool.stop()

    run(scenario())
    gc.collect()
    assert [] == [r.message for r in caplog.records if r.name == "asyncio"]


def test_others_are_made_where_replacements_fail_again_and_again() -> None:
    """As when the files of a variant vanish while its first replicas run."""

    async def scenario() -> None:
        workers = FakeWorkers(by_itself=False)
        pool = workers.pool(1)
        fallen_at: list[int] = []

        def fall_back(reason: BaseException) -> bool:
            fallen_at.append(len(workers.made))
            return len(fallen_at) == 1

        pool.fall_back = fall_back
        starting = asyncio.ensure_future(pool.start())
        await settle()
        workers[0].become_ready()
        await starting
        workers[0].die()
        for number in range(1, PATIENCE + 2):
            while len(workers.made) <= number:  # noqa: ASYNC110 - the loop's time is not real
                await asyncio.sleep(BACKOFF_S[-1])
            if not fallen_at:
                workers[number].started.set_exception(ReplicaStartFailed("no such file"))
                await settle()
        assert [PATIENCE + 1] == fallen_at
        workers[PATIENCE + 1].become_ready()
        await settle()
        assert ["ready"] == states(pool)
        await pool.stop()

    run(scenario())
