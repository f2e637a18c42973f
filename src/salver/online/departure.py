"""Clients that leave while their rows wait.

A server tells of a disconnect only to who listens, and a listener is a task. Most answers are
there within milliseconds, so nobody listens at first: one timer for all looks at the requests
that are still waiting, and only those get a listener. This module does not know what is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from starlette.types import Receive

PERIOD_S = 0.05  # a request that is seen waiting twice, this many seconds apart, gets a listener

Answer = TypeVar("Answer")
Task = asyncio.Task[Any]


class ClientLeft(Exception):
    """The client of a request is gone; there is nobody to answer."""


class Departures:
    """Cancels what a client waits for when the client leaves."""

    def __init__(self) -> None:
        self._waiting: dict[Task, Receive] = {}
        self._seen: set[Task] = set()  # waiting when the timer looked last
        self._listeners: dict[Task, Task] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def watch(self, question: Awaitable[Answer], receive: Receive) -> Answer:
        """Awaits `question` for a client whose request was read to its end.

        Raises:
            ClientLeft: If the client disconnected; `question` was cancelled.
        """
        task = asyncio.current_task()
        assert task is not None
        self._waiting[task] = receive
        if self._timer is None:
            self._timer = task.get_loop().call_later(PERIOD_S, self._look)
        try:
            return await question
        except asyncio.CancelledError:
            # A listener that has ended has cancelled; else it is the server that ends the request.
            listener = self._listeners.get(task)
            if listener is not None and listener.done() and task.uncancel() == 0:
                raise ClientLeft from None
            raise
        finally:
            del self._waiting[task]
            if task in self._listeners:
                self._listeners.pop(task).cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        for task in self._seen & self._waiting.keys():
            if task not in self._listeners:
                listener = loop.create_task(_cancel_on_disconnect(task, self._waiting[task]))
                self._listeners[task] = listener
        self._seen = set(self._waiting)
        self._timer = loop.call_later(PERIOD_S, self._look) if self._waiting else None


async def _cancel_on_disconnect(task: Task, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
