from __future__ import annotations

import asyncio
from typing import Any

import pytest

from salver.online.departure import ClientLeft, Departures


async def never() -> Any:
    await asyncio.Event().wait()


async def gone() -> Any:
    return {"type": "http.disconnect"}


def test_the_answer_is_passed_on() -> None:
    """Without a disconnect the watch changes nothing, and nobody listens."""

    async def answer() -> int:
        return 3

    async def run() -> int:
        return await Departures().watch(answer(), never)

    assert asyncio.run(run()) == 3


def test_an_error_is_passed_on() -> None:
    """What the question raises reaches its asker."""

    async def fail() -> None:
        raise ValueError("no")

    async def run() -> None:
        await Departures().watch(fail(), gone)

    with pytest.raises(ValueError, match="no"):
        asyncio.run(run())


def test_a_disconnect_cancels_the_question() -> None:
    """A client that is gone ends its question, and the asking task goes on unhurt."""

    async def run() -> str:
        with pytest.raises(ClientLeft):
            await Departures().watch(never(), gone)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return f"cancelling: {task.cancelling()}"

    assert asyncio.run(run()) == "cancelling: 0"


def test_a_cancellation_by_the_server_stays_one() -> None:
    """A server that ends the request itself is not taken for a client that left."""

    async def run() -> None:
        task = asyncio.create_task(Departures().watch(never(), never))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_each_client_ends_its_own_question_only() -> None:
    """One of two leaves; the other is answered, and no listener is left behind."""

    async def run() -> list[Any]:
        departures = Departures()
        release = asyncio.Event()
        staying = asyncio.create_task(departures.watch(release.wait(), never))
        leaving = asyncio.create_task(departures.watch(release.wait(), gone))
        await asyncio.wait([leaving])
        release.set()
        results = await asyncio.gather(staying, leaving, return_exceptions=True)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return results

    staying, leaving = asyncio.run(run())
    assert staying is True
    assert isinstance(leaving, ClientLeft)
