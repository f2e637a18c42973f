"""Replicas by themselves; what all kinds promise together is in the contract suite."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from engine.fakes import batch_of
from salver import deployment
from salver.definition import Deployment
from salver.engine.frames import FrameReader, outcomes_as_message, outcomes_from_message, pack
from salver.engine.replica import Birth, ProcessReplica, ThreadReplica, _Channel
from salver.errors import ReplicaDied, ReplicaStartFailed
from salver.testing import StubModel
from salver.types import Outcomes


class Text(BaseModel):
    text: str


def bound(model: type = StubModel) -> Deployment:
    return deployment(input=Text)(type("Tagger", (model,), {})).bind()


class Transport:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.reader = FrameReader()
        self.messages: list[Any] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.messages += self.reader.feed(data)

    def close(self) -> None:
        self.closed = True


def with_channel(test: Callable[[_Channel, Transport, list[str]], Any]) -> None:
    """Runs a test on a channel that was connected."""

    async def scenario() -> None:
        ends: list[str] = []
        channel, transport = _Channel(lambda: ends.append("ended")), Transport()
        channel.connection_made(transport)  # type: ignore[arg-type]
        await test(channel, transport, ends)

    asyncio.run(scenario())


ONE = Outcomes(1, {"prediction": ["x"]})


def test_an_answer_finds_its_question() -> None:
    """Questions are numbered; an answer that nobody waits for any more is dropped."""

    async def test(channel: _Channel, transport: Transport, ends: list[str]) -> None:
        given_up = channel.ask("run", [["a"]], outcomes_from_message)
        given_up.cancel()
        waited_for = channel.ask("run", [["b"]], outcomes_from_message)
        assert ["run", [["a"]]] == transport.messages[0][1:]
        numbers = [message[0] for message in transport.messages]
        for number in (999, *numbers, numbers[1]):
            channel.data_received(pack([number, outcomes_as_message(ONE)]))
        assert list(ONE) == list(await waited_for)
        assert [] == ends

    with_channel(test)


@pytest.mark.parametrize("garbage", ["frame", "answer"])
def test_what_cannot_be_read_ends_the_replica(garbage: str) -> None:
    """Everybody who waits hears that it died, and its pool is told once."""

    async def test(channel: _Channel, transport: Transport, ends: list[str]) -> None:
        asked = channel.ask("run", [["a"]], outcomes_from_message)
        number = transport.messages[0][0]
        channel.data_received(b"\xff" * 8 if garbage == "frame" else pack([number, {"size": 1}]))
        channel.connection_lost(None)
        with pytest.raises(ReplicaDied):
            await asyncio.wait_for(asked, 5)
        with pytest.raises(ReplicaDied):
            await channel.ask("run", [["b"]])
        assert transport.closed
        assert ["ended"] == ends

    with_channel(test)


def test_what_cannot_be_sent_concerns_its_rows_only() -> None:
    """The replica is not harmed by a question that cannot be written."""

    async def test(channel: _Channel, transport: Transport, ends: list[str]) -> None:
        with pytest.raises(TypeError, match="cannot be sent"):
            await channel.ask("run", [object()])
        assert not channel.is_closed
        assert [] == ends

    with_channel(test)


def test_a_process_that_cannot_be_started_is_a_failed_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error of the system is in the message, so that the pool tries again later."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    replica = ProcessReplica(Birth("m:s", "Tagger", {}, {}, threads=1), bound())

    with pytest.raises(ReplicaStartFailed, match=r"Tagger.*No such file"):
        asyncio.run(replica.start())

    assert replica.has_ended()
    assert 0 == replica.pid


def test_a_thread_answers_one_batch_at_a_time_off_the_loop() -> None:
    """The loop stays free while a model computes."""
    started, release = threading.Event(), threading.Event()

    class Slow(StubModel):
        def __call__(self, batch: Any) -> Any:
            started.set()
            assert release.wait(20)
            return super().__call__(batch)

    async def scenario() -> None:
        replica = ThreadReplica(bound(Slow), {})
        await replica.start()
        asked = replica.run(batch_of("aa"))
        await asyncio.get_running_loop().run_in_executor(None, started.wait, 20)
        assert not asked.done()
        release.set()
        assert "yes" == (await asked)[0]["prediction"]
        assert not replica.has_ended()
        await replica.stop()

    asyncio.run(scenario())


def test_a_thread_that_cannot_load_is_not_left_behind() -> None:
    """The thread ends with the failed start."""

    class Raises(StubModel):
        def __init__(self) -> None:
            raise ValueError("no weights")

    before = threading.active_count()
    with pytest.raises(ReplicaStartFailed, match="no weights") as caught:
        asyncio.run(ThreadReplica(bound(Raises), {}).start())
    assert isinstance(caught.value.__cause__, ValueError)
    for thread in threading.enumerate():
        if thread.name.startswith("salver-Tagger"):
            thread.join(20)
    assert before >= threading.active_count()


def test_a_thread_that_hangs_does_not_hold_up_a_stop() -> None:
    """After the grace it is left behind, and who asked hears that the replica died."""
    started, release = threading.Event(), threading.Event()

    class Hangs(StubModel):
        def __call__(self, batch: Any) -> Any:
            started.set()
            release.wait(60)
            return super().__call__(batch)

    async def scenario() -> None:
        replica = ThreadReplica(bound(Hangs), {})
        await replica.start()
        asked = replica.run(batch_of("aa"))
        await asyncio.get_running_loop().run_in_executor(None, started.wait, 20)
        async with asyncio.timeout(20):
            await replica.stop(grace_s=0.02)
            with pytest.raises(ReplicaDied):
                await asked

    try:
        asyncio.run(scenario())
        (left,) = (t for t in threading.enumerate() if t.name.startswith("salver-Tagger"))
        assert left.daemon
    finally:
        release.set()
    left.join(20)
    assert not left.is_alive()
