"""Clients that leave while their rows wait.

A server tells of a disconnect only to who listens, and a listener is a task. Most answers are
there within milliseconds, so nobody listens at first: one timer for all looks at the requests
that are still waiting, and only those get a listener. This module does not know what is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from starlette.types import Receive

PATIENCE_S = 0.05  # seconds without an answer before a listener starts

Answer = TypeVar("Answer")


class ClientLeft(Exception):
    """The client of a request is gone; there is nobody to answer."""


class _Waiter:
    __slots__ = ("gone", "listener", "receive", "seen", "task")

    def __init__(self, task: asyncio.Task[object], receive: Receive) -> None:
        self.task = task
        self.receive = receive
        self.seen = False  # by the timer, once
        self.gone = False
        self.listener: asyncio.Task[None] | None = None


class Departures:
    """Cancels what a client waits for when the client leaves."""

    def __init__(self) -> None:
        self._waiters: set[_Waiter] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def watch(self, question: Awaitable[Answer], receive: Receive) -> Answer:
        """Awaits `question` for a client whose request was read to its end.

        Raises:
            ClientLeft: If the client disconnected; `question` was cancelled.
        """
        task = asyncio.current_task()
        assert task is not None
        waiter = _Waiter(task, receive)
        self._waiters.add(waiter)
        if self._timer is None:
            self._timer = task.get_loop().call_later(PATIENCE_S, self._look)
        try:
            return await question
        except asyncio.CancelledError:
            if waiter.gone and task.uncancel() == 0:
                raise ClientLeft from None
            raise  # the server ends this request itself
        finally:
            self._waiters.discard(waiter)
            if waiter.listener is not None:
                waiter.listener.cancel()

    def _look(self) -> None:
        # Who is seen for the second time has waited for one to two periods.
        for waiter in self._waiters:
            if waiter.seen and waiter.listener is None:
                waiter.listener = waiter.task.get_loop().create_task(_listen(waiter))
            waiter.seen = True
        self._timer = (
            asyncio.get_running_loop().call_later(PATIENCE_S, self._look) if self._waiters else None
        )


async def _listen(waiter: _Waiter) -> None:
    while (await waiter.receive())["type"] != "http.disconnect":
        pass
    waiter.gone = True
    waiter.task.cancel()
