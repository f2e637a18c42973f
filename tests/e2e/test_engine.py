"""The embedded engine with real processes that crash, hang, stop and are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import PATIENCE_S, lives, wait_for_end, wait_until
from services import chaos

from salver import Checkpoint
from salver.engine.local import LocalEngine
from salver.engine.targets import load_service
from salver.errors import (
    CheckpointError,
    DeadlineExceeded,
    NotReady,
    QueueFull,
    ReplicaStartFailed,
    UnsupportedOption,
)
from salver.run import Configuration, Session
from salver.service import Service
from salver.types import Outcome

KILLS = int(os.environ.get("TEST_KILLS", "5"))
CLIENTS = 16


class Running:
    """A service that runs in the background of this process."""

    def __init__(self, service: Service, target: str | None, **options: Any) -> None:
        self.session = Session(service)
        sets = tuple(f"{name}={value}" for name, value in options.items())
        try:
            self.session.start(target, Configuration(sets=sets))
        except BaseException:
            self.session.close()
            raise
        assert self.session.engine is not None
        self.engine: LocalEngine = self.session.engine

    def replicas(self, name: str = "Echo") -> list[dict[str, Any]]:
        replicas: list[dict[str, Any]] = self.engine.readiness()["deployments"][name]["replicas"]
        return replicas

    def pids(self, name: str = "Echo") -> list[int]:
        """Replicas that are ready or at work."""
        return [r["pid"] for r in self.replicas(name) if r["state"] in ("ready", "busy")]

    def wait_for(self, number: int) -> list[int]:
        wait_until(lambda: len(self.pids()) == number, f"{number} replicas ready")
        return self.pids()


@contextmanager
def running(
    service: Service = chaos.service, target: str | None = "services.chaos:service", **options: Any
) -> Iterator[Running]:
    one = Running(service, target, **options)
    try:
        yield one
    finally:
        one.session.close()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The rows that models have seen, one attempt each."""
    path = tmp_path / "seen"
    path.touch()
    monkeypatch.setenv("TEST_LOG", str(path))
    return lambda: path.read_text(encoding="utf-8").splitlines()


class Gate:
    """A row that its model holds until the gate is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.row = {"text": f"wait {path}"}

    def open(self) -> None:
        self._path.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is open at the latest when the test ends."""
    one = Gate(tmp_path / "gate")
    yield one
    one.open()


def ask(text: str) -> Outcome:
    return chaos.echo.predict([{"text": text}])[0]


class Load:
    """Concurrent askers on the engine's loop that check every answer until they are stopped."""

    def __init__(self, one: Running) -> None:
        self.answered = 0
        self._busy = True
        loop = one.engine.handles["Echo"].loop
        self._asking = asyncio.run_coroutine_threadsafe(self._ask_all(), loop)

    def stop(self) -> None:
        """Raises what any asker met with."""
        self._busy = False
        self._asking.result(PATIENCE_S)

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask(n) for n in range(CLIENTS)))

    async def _ask(self, n: int) -> None:
        i = 0
        while self._busy:
            text = f"client {n} row {i}"
            outcome = await chaos.echo({"text": text})
            assert text.upper() == outcome["prediction"]
            self.answered += 1
            i += 1


def test_a_killed_replica_fails_no_request() -> None:
    """`kill -9` of one of two replicas under 16 concurrent clients, again and again."""
    with running(num_replicas=2, request_timeout_s=PATIENCE_S) as one:
        for attempt in range(KILLS):
            one.wait_for(2)
            chance = random.Random(attempt)
            load = Load(one)
            moment = chance.randint(1, 500)
            wait_until(lambda n=moment: load.answered >= n, "under load")  # noqa: B023
            victim = chance.choice(one.pids())
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda v=victim: v not in one.pids(), "noticed")
            one.wait_for(2)
            load.stop()
        assert KILLS == sum(r["restarts"] for r in one.replicas())


def test_a_row_that_crashes_its_replica_hurts_nobody_else(log: Callable[[], list[str]]) -> None:
    """It is tried twice at most; its neighbours are answered; one replica is always there."""
    with running(num_replicas=2, request_timeout_s=PATIENCE_S) as one:
        one.wait_for(2)
        pool = one.engine._pools["Echo"]
        healthy: list[int] = []

        async def scenario() -> list[Outcome]:
            texts = [f"row {i}" for i in range(20)]
            texts[7] = "exit"
            asked = asyncio.gather(*(chaos.echo({"text": text}) for text in texts))
            while not asked.done():
                healthy.append(pool.healthy)
                await asyncio.sleep(0.001)
            return await asked

        outcomes = one.session.wait_for(scenario())

        assert [7] == [i for i, outcome in enumerate(outcomes) if not outcome.ok]
        assert outcomes[7].failure is not None
        assert "replica_crashed" == outcomes[7].failure.code
        assert [f"ROW {i}" for i in range(20) if i != 7] == [
            o["prediction"] for o in outcomes if o.ok
        ]
        assert 2 == log().count("exit")
        assert min(healthy) >= 1
        one.wait_for(2)


@pytest.mark.parametrize("how", ["hang", "SIGSTOP"])
def test_a_replica_that_hangs_is_replaced(how: str) -> None:
    """A second after the deadline it is gone; meanwhile and afterwards others are answered."""
    with running(num_replicas=1, request_timeout_s=1.0) as one:
        (pid,) = one.wait_for(1)
        if how == "SIGSTOP":
            os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="1 s"):
            ask("hang" if how == "hang" else "text")
        assert lives(pid), "it had a second more"
        wait_for_end([pid], 20)
        # Timers of the loop count whole milliseconds, so they may end a little early.
        assert 1.9 <= time.monotonic() - started < 20
        one.wait_for(1)
        assert "TEXT" == ask("text")["prediction"]
        assert pid not in one.pids()


def test_an_idle_replica_that_is_killed_delays_nobody() -> None:
    """The next row goes to the replica that is left, and not to the dead one first."""
    with running(num_replicas=2) as one:
        for _ in range(3):
            victim = one.wait_for(2)[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda v=victim: v not in one.pids(), "noticed")
            assert "TEXT" == ask("text")["prediction"]


def test_a_replica_that_cannot_restart_backs_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again at growing intervals until it loads; the other answers meanwhile."""
    broken = tmp_path / "broken"
    monkeypatch.setenv("TEST_FAIL_FILE", str(broken))
    with running(num_replicas=2) as one:
        victim = one.wait_for(2)[0]
        broken.touch()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "told to fail at load" in caplog.text, "the reason logged")
        slot = one.engine._pools["Echo"].slots[0]
        wait_until(lambda: slot.failures >= 3, "tried again")
        assert "TEXT" == ask("text")["prediction"]
        assert one.engine.readiness()["ready"]
        broken.unlink()
        one.wait_for(2)
        assert victim not in one.pids()


def test_sigterm_from_outside_does_not_end_a_replica() -> None:
    """A service manager signals every process; replicas go on until the engine has drained."""
    with running() as one:
        (pid,) = one.wait_for(1)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert pid == ask("text")["pid"]


def test_stop_leaves_no_process() -> None:
    """Neither replicas nor what their models spawned, idle or hanging."""
    with running(num_replicas=2) as one:
        pids = one.wait_for(2)
        pids.append(int(ask("spawn")["prediction"]))
        assert all(map(lives, pids))
    assert not any(map(lives, pids))


def test_a_crash_leaves_no_grandchild() -> None:
    """What a model spawned ends with its replica, also when that was killed."""
    with running():
        outcome = ask("spawn")
        os.kill(outcome["pid"], signal.SIGKILL)
        wait_for_end([int(outcome["prediction"])], PATIENCE_S)


def test_replicas_that_hang_do_not_keep_stop_from_ending() -> None:
    """More hung replicas than helper threads are killed all the same."""
    number = 7
    one = Running(chaos.service, "services.chaos:service", num_replicas=number, drain_timeout_s=0)
    try:
        pids = one.wait_for(number)
        loop = one.engine.handles["Echo"].loop
        questions = [
            asyncio.run_coroutine_threadsafe(
                chaos.echo._ask(one.engine.handles["Echo"], [{"text": "hang"}]), loop
            )
            for _ in range(number)
        ]
        wait_until(lambda: all(r["state"] == "busy" for r in one.replicas()), "all hang")
    finally:
        one.session.close()
    assert not any(map(lives, pids))
    for question in questions:
        with pytest.raises(NotReady):
            question.result(1)


def test_a_start_that_is_given_up_leaves_no_process() -> None:
    """Cancelled at any moment, a start ends the children that it has begun."""

    async def scenario(moment: float) -> None:
        engine = LocalEngine(chaos.service, "services.chaos:service")
        with suppress(TimeoutError):
            async with asyncio.timeout(moment):
                await engine.start()
        await engine.stop(0)

    before = children()
    for moment in (0.0, 0.001, 0.01, 0.1, 0.4):
        asyncio.run(scenario(moment))
    wait_until(lambda: children() <= before, "all children gone", 20)


def children() -> set[int]:
    """Replicas that this process has spawned and that live."""
    return {
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if is_worker_of(path, os.getpid()) and lives(int(path.parent.name))
    }


def is_worker_of(path: Path, parent: int) -> bool:
    with suppress(OSError):
        stat = (path.parent / "stat").read_text().rpartition(")")[2].split()
        return b"salver.engine.worker" in path.read_bytes() and int(stat[1]) == parent
    return False


def test_a_full_queue_says_when_to_come_again(gate: Gate) -> None:
    """The bound is kept, and who is refused hears so at once."""
    with running(max_queued_requests=2, max_batch_size=1) as one:

        async def scenario() -> list[Outcome]:
            running_row = asyncio.ensure_future(chaos.echo(gate.row))
            while one.replicas()[0]["state"] != "busy":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            waiting = [asyncio.ensure_future(chaos.echo({"text": t})) for t in "ab"]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull, match="2 of 2") as caught:
                await chaos.echo({"text": "c"})
            assert caught.value.retry_after_s >= 1
            gate.open()
            return await asyncio.gather(running_row, *waiting)

        outcomes = one.session.wait_for(scenario())
        assert ["A", "B"] == [o["prediction"] for o in outcomes[1:]]


def test_rows_nobody_waits_for_never_reach_the_model(
    gate: Gate, log: Callable[[], list[str]]
) -> None:
    """Neither those whose asker was cancelled nor those whose deadline has passed."""
    with running(max_batch_size=1) as one:
        handle = one.engine.handles["Echo"]
        late = chaos.echo.schema.check_rows([{"text": "late"}]).batch

        async def scenario() -> None:
            first = asyncio.ensure_future(chaos.echo(gate.row))
            while one.replicas()[0]["state"] != "busy":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            leaver = asyncio.ensure_future(chaos.echo({"text": "leaver"}))
            with pytest.raises(DeadlineExceeded):
                await handle.ask(late, timeout_s=0.05)
            leaver.cancel()
            last = asyncio.ensure_future(chaos.echo({"text": "last"}))
            await asyncio.sleep(0)
            gate.open()
            assert "LAST" == (await last)["prediction"]
            await first

        one.session.wait_for(scenario())
        assert [gate.row["text"], "last"] == log()


def test_a_composed_function_asks_its_parts_at_once(tmp_path: Path) -> None:
    """The second part is asked while the first still works."""
    with running(chaos.composed, "services.chaos:composed") as one:
        path = tmp_path / "gate"
        both = chaos.composed.exposed[0]
        asked = asyncio.run_coroutine_threadsafe(
            both._ask(one.engine.handles["both"], [{"text": f"wait {path}"}]),
            one.engine.handles["both"].loop,
        )

        def at_work() -> set[str]:
            deployments = one.engine.readiness()["deployments"]
            return {
                n for n in ("Echo", "Other") if deployments[n]["replicas"][0]["state"] == "busy"
            }

        wait_until(lambda: at_work() == {"Echo", "Other"}, "both at work")
        path.touch()
        (outcome,) = asked.result(PATIENCE_S)
        assert outcome["first"] == outcome["second"]


def test_a_deployment_is_asked_from_anywhere_but_its_own_loop() -> None:
    """From another event loop, from a thread; blocking its own loop is refused with advice."""
    with running() as one:

        async def elsewhere() -> tuple[Outcome, list[Outcome]]:
            return await chaos.echo({"text": "a"}), await chaos.echo([{"text": "b"}, {"text": 3}])

        single, several = asyncio.run(elsewhere())
        assert "A" == single["prediction"]
        assert [True, False] == [o.ok for o in several]
        assert ["C"] == [o["prediction"] for o in chaos.echo.predict([{"text": "c"}])]

        async def on_its_own() -> None:
            chaos.echo.predict([{"text": "d"}])

        with pytest.raises(RuntimeError, match=r"await Echo\(rows\)"):
            one.session.wait_for(on_its_own())
    with pytest.raises(NotReady):
        ask("e")


def test_an_asker_on_another_loop_that_leaves_takes_its_row_along(
    gate: Gate, log: Callable[[], list[str]]
) -> None:
    """Cancelling there drops the row here."""
    with running(max_batch_size=1) as one:

        async def elsewhere() -> None:
            first = asyncio.ensure_future(chaos.echo(gate.row))
            while one.replicas()[0]["state"] != "busy":  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            leaver = asyncio.ensure_future(chaos.echo({"text": "leaver"}))
            while not one.engine.readiness()["deployments"]["Echo"]["queued"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            leaver.cancel()
            with suppress(asyncio.CancelledError):
                await leaver
            last = asyncio.ensure_future(chaos.echo({"text": "last"}))
            while one.engine.readiness()["deployments"]["Echo"]["queued"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            gate.open()
            await asyncio.gather(first, last)

        asyncio.run(elsewhere())
        assert [gate.row["text"], "last"] == log()


def test_a_thread_replica_answers_in_this_process() -> None:
    """The option decides, also for a service that could be imported."""
    with running(replica="thread") as one:
        assert os.getpid() == ask("text")["pid"]
        assert [os.getpid()] == one.pids()


@pytest.mark.parametrize(
    ("options", "target", "says"),
    [
        ({"autoscaling_config": "{max_replicas: 3}"}, "services.chaos:service", "belongs to Ray"),
        ({"num_gpus": 1}, "services.chaos:service", r"shows 0.*num_gpus to 0"),
        ({"replica": "process"}, None, "not importable"),
    ],
)
def test_an_option_that_cannot_be_honoured_stops_the_start(
    options: dict[str, Any], target: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names it, and nothing was started."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UnsupportedOption, match=says):
        Running(chaos.service, target, **options)


def test_math_threads_are_set_before_anything_is_imported() -> None:
    """`num_cpus` of a replica decides; by default they share the machine."""
    with running(num_cpus=3):
        assert ["3"] * 2 == [ask(f"env {n}_NUM_THREADS")["prediction"] for n in ("OMP", "MKL")]
    with running(num_replicas=64, replica="thread") as one:
        assert one.engine.plans["Echo"].threads is None


def test_an_offline_batch_survives_a_row_that_crashes(log: Callable[[], list[str]]) -> None:
    """The identical batch is run again, then halved until the row stands alone."""
    with running(num_replicas=2) as one:
        batch = chaos.echo.schema.check_rows([{"text": t} for t in ("a", "exit")]).batch
        outcomes = one.session.wait_for(one.engine.offline_replica("Echo").run(batch))
        assert [1] == list(outcomes.failures)
        assert "replica_crashed" == outcomes.failures[1].code
        assert ["A"] == [o["prediction"] for o in outcomes if o.ok]


MODEL = """
from pydantic import BaseModel
from salver import Service, checkpoint, deployment

class Text(BaseModel):
    text: str

@deployment(input=Text)
class Weights:
    def __init__(self, weights):
        self.said = weights.file("said.txt").read_text()

    def __call__(self, batch):
        return [self.said] * len(batch["text"])

service = Service(Weights.bind(checkpoint({path!r})))
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A service in a file, with a checkpoint beside it; the checkpoint's folder."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "said.txt").write_text("seven")
    Checkpoint.create(folder, {"examples": [{"input": {"text": "x"}, "prediction": "seven"}]})
    (tmp_path / "service.py").write_text(MODEL.replace("{path!r}", repr(str(folder))))
    return folder


def test_a_checkpoint_is_resolved_in_the_background_of_a_process(weights: Path) -> None:
    """A service in a file, in a background thread, loads the checkpoint by its digest."""
    target = f"{weights.parent / 'service.py'}:service"
    service = load_service(target)
    with running(service, target) as one:
        assert "seven" == service.exposed[0].predict([{"text": "x"}])[0]["prediction"]
        state = one.engine.readiness()["deployments"]["Weights"]["checkpoints"]
        assert [Checkpoint.open(weights).digest] == [c["digest"] for c in state]
        assert {"prediction": "seven"} == one.engine.examples("Weights")[0]["output"]


def test_a_corrupted_checkpoint_stops_the_start(weights: Path) -> None:
    """The file is named, and nothing was started."""
    (weights / "said.txt").write_text("sevem")
    target = f"{weights.parent / 'service.py'}:service"
    with pytest.raises((CheckpointError, ReplicaStartFailed), match=r"said\.txt"):
        Running(load_service(target), target)
