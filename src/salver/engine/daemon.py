"""A thread that runs calls one after the other, and that nothing has to wait for.

The threads of an executor are joined at the end of the interpreter, so a call that hangs in one
would keep the process alive for ever. This module does not know what it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from salver.errors import ReplicaDied

_Call = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class DaemonThread:
    """Runs calls off the event loop, in order.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._unanswered: set[asyncio.Future[Any]] = set()

    def call(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """The result of `function(*args)`; it fails with `ReplicaDied` if the thread is given up."""
        if not self._thread.ident:
            self._thread.start()
        future = asyncio.get_running_loop().create_future()
        self._unanswered.add(future)
        future.add_done_callback(self._unanswered.discard)
        self._calls.put((future, function, args))
        return future

    async def stop(self, grace_s: float) -> None:
        """Ends it after the calls it was given; gives it up when that takes over `grace_s`."""
        self._calls.put(None)
        end = time.monotonic() + grace_s
        # It looks again and again, since joining would take another thread that may hang.
        while self._thread.is_alive() and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        if self._thread.is_alive():
            self.give_up()

    def give_up(self) -> None:
        """Fails what is not answered, without waiting; the thread ends when its call does."""
        self._calls.put(None)
        for future in list(self._unanswered):
            if not future.done():
                future.set_exception(ReplicaDied("The replica's thread was given up."))

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, args = call
            if future.done():
                continue
            result, error = None, None
            try:
                result = function(*args)
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever called
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop ended while the call ran
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            del call, future, function, args, result, error  # keep no batch while it waits


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
