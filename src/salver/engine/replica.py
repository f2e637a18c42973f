"""Replicas of the embedded engine: a child process (the default) and a thread.

Both are started once, answer batches until they are stopped, and raise `ReplicaDied` when they
end instead of answering. A replica does not know the queue, nor what happens to its rows after
it died.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from salver.definition import Deployment
from salver.engine import children
from salver.engine.daemon import DaemonThread
from salver.engine.frames import FrameReader, fields_as_message, outcomes_from_message, pack
from salver.engine.loading import Loaded, Resolved, load
from salver.errors import ReplicaDied, ReplicaStartFailed
from salver.types import Batch, Outcomes

log = logging.getLogger("salver.replica")


@dataclass(frozen=True, slots=True)
class Birth:
    """All that a child process needs to load its deployment; plain values only.

    Attributes:
        target: `module:attribute` of the service.
        deployment: Name of the deployment in it.
        overrides: Options given outside the code.
        resolved: Path and digest of each checkpoint.
        threads: Math threads of the process.
        devices: Value of `CUDA_VISIBLE_DEVICES`, or null to leave it.
    """

    target: str
    deployment: str
    overrides: Mapping[str, Any]
    resolved: Resolved
    threads: int
    devices: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """What a replica says once it has answered its golden examples.

    Attributes:
        examples: `{"input": row, "output": result}` of each golden example, as executed.
        load_s: Seconds from its start to here.
        tokenizer_file: The tokenizer that cuts the model's texts, if there is one.
    """

    examples: list[dict[str, Any]] = field(default_factory=list)
    load_s: float = 0.0
    tokenizer_file: str | None = None


class Worker(Protocol):
    """A replica that the pool can start and end."""

    @property
    def pid(self) -> int:
        """Process that computes."""
        ...

    @property
    def can_be_killed(self) -> bool:
        """True when a hang can be ended from outside."""
        ...

    on_end: Callable[[], None]  # called when it ends without having been asked to

    async def start(self) -> Ready:
        """Loads; returns when the golden examples were answered."""
        ...

    def run(self, batch: Batch) -> asyncio.Future[Outcomes]:
        """Predicts one batch; at most one at a time."""
        ...

    def has_ended(self) -> bool:
        """True when it can answer nothing any more."""
        ...

    def kill(self) -> None:
        """Ends it at once; what it holds fails with `ReplicaDied`."""
        ...

    async def stop(self) -> None:
        """Ends it between two batches."""
        ...


class ProcessReplica:
    """A child process that runs the pipeline; a crash or a leak in it cannot hurt the engine.

    Args:
        birth: What to load.
        deployment: The same deployment as this process sees it.
    """

    can_be_killed = True

    def __init__(self, birth: Birth, deployment: Deployment) -> None:
        self._birth = birth
        self._fields = deployment.schema.fields
        self._name = deployment.name
        self.on_end: Callable[[], None] = lambda: None
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: _Channel | None = None
        self._lifeline: int | None = None
        self._was_killed = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> Ready:
        """Spawns the child and waits until it has answered its golden examples.

        Raises:
            ReplicaStartFailed: With the child's own traceback.
        """
        started = time.monotonic()
        try:
            channel = self._channel = await self._connect()
            message = await channel.ask("load", self._load_message())
        except OSError as error:
            self.kill()
            raise ReplicaStartFailed(
                f"No child process could be started for {self._name}: {error}. Check the limits of "
                "this machine on processes, open files and memory."
            ) from error
        except ReplicaDied:
            code = await self._exit_code()
            self.kill()
            raise ReplicaStartFailed(
                f"A replica of {self._name} ended with exit code {code} while it was loading. Its "
                "own output above says why."
            ) from None
        except BaseException:  # cancelled: start took too long, or the service is ending
            self.kill()
            raise
        if "error" in message:
            self.kill()
            raise ReplicaStartFailed(f"{self._name} could not be loaded.\n{message['error']}")
        return Ready(message["examples"], time.monotonic() - started, message["tokenizer_file"])

    def run(self, batch: Batch) -> asyncio.Future[Outcomes]:
        assert self._channel is not None
        return self._channel.ask("run", list(batch.rows), outcomes_from_message)

    def has_ended(self) -> bool:
        closed = self._channel is None or self._channel.is_closed
        return closed or self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        self.on_end = lambda: None
        process = self._process
        if process is not None and not self._was_killed:
            self._was_killed = True
            children.end_group(process)
        self._release()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Closes the socket, upon which the child ends by itself; kills it after `grace_s`."""
        self.on_end = lambda: None
        self._release()
        if self._process is not None:
            await self._exit_code(grace_s)
            self.kill()

    async def _exit_code(self, grace_s: float = 5.0) -> int:
        """Waits for the child's end, and kills it after `grace_s`.

        It looks again and again, since a thread for each hung child would use up the executor.
        """
        assert self._process is not None
        end = time.monotonic() + grace_s
        while (code := self._process.poll()) is None:
            if time.monotonic() > end:
                self.kill()
            await asyncio.sleep(0.005)
        return code

    async def _connect(self) -> _Channel:
        loop = asyncio.get_running_loop()
        birth = self._birth
        taking = loop.run_in_executor(None, children.take, birth.threads, birth.devices)
        try:
            child = await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(_end_unwanted)
            raise
        self._process, self._lifeline = child.process, child.lifeline
        child.channel.setblocking(False)
        try:
            _, channel = await loop.create_unix_connection(
                lambda: _Channel(self._ended), sock=child.channel
            )
        except BaseException:
            child.channel.close()
            raise
        return channel

    def _ended(self) -> None:
        self.on_end()

    def _load_message(self) -> dict[str, Any]:
        return {
            "target": self._birth.target,
            "deployment": self._birth.deployment,
            "overrides": dict(self._birth.overrides),
            "resolved": {place: dict(r) for place, r in self._birth.resolved.items()},
            "fields": fields_as_message(self._fields),
            "sys_path": sys.path,
        }

    def _release(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def _end_unwanted(taken: asyncio.Future[children.Child]) -> None:
    if not taken.cancelled() and taken.exception() is None:
        taken.result().end()


class _Channel(asyncio.Protocol):
    """One question at a time over a socket; the answer is matched by its number."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Any], Any]] = {}
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        try:
            for number, answer in self._reader.feed(data):
                future, convert = self._waiting.get(number, (None, None))
                if future is not None and not future.done():
                    future.set_result(convert(answer) if convert else answer)
                self._waiting.pop(number, None)
        except Exception:
            log.exception("A replica sent a frame that cannot be read; it is replaced.")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def ask(self, kind: str, content: Any, convert: Any = None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_closed or self._transport is None:
            future.set_exception(ReplicaDied("The replica has ended."))
            return future
        number = next(self._numbers)
        try:
            frame = pack([number, kind, content])
        except Exception as error:  # noqa: BLE001 - whatever cannot be sent concerns these rows only
            future.set_exception(error)
            return future
        self._waiting[number] = (future, convert)
        self._transport.write(frame)
        return future

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        if self._transport is not None:
            self._transport.close()
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(ReplicaDied("The replica ended while it held the batch."))
        self._waiting.clear()
        self._on_close()


class ThreadReplica:
    """The pipeline in a thread of this process, for runtimes that release the GIL.

    It shares the engine's memory and fate: a hang cannot be ended, only left behind when the
    engine stops, and a crash ends all.

    Args:
        deployment: What to load.
        resolved: Path and digest of each checkpoint.
    """

    can_be_killed = False

    def __init__(self, deployment: Deployment, resolved: Resolved) -> None:
        self._deployment = deployment
        self._resolved = resolved
        self.on_end: Callable[[], None] = lambda: None  # a thread does not end by itself
        self._thread = DaemonThread(f"salver-{deployment.name}")
        self._loaded: Loaded | None = None

    @property
    def pid(self) -> int:
        return os.getpid()

    async def start(self) -> Ready:
        """Loads in the thread.

        Raises:
            ReplicaStartFailed: With the reason as its cause.
        """
        started = time.monotonic()
        try:
            self._loaded = loaded = await self._thread.call(self._load)
        except BaseException:  # also cancelled: start took too long, or the service is ending
            self.kill()
            raise
        return Ready(loaded.examples, time.monotonic() - started, loaded.tokenizer_file)

    def run(self, batch: Batch) -> asyncio.Future[Outcomes]:
        assert self._loaded is not None
        return self._thread.call(self._loaded.pipeline.run, batch)

    def has_ended(self) -> bool:
        return False

    def kill(self) -> None:
        self._thread.give_up()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Ends between two batches; a batch that hangs is left behind after `grace_s`."""
        await self._thread.stop(grace_s)

    def _load(self) -> Loaded:
        try:
            return load(self._deployment, self._resolved, log.error)
        except BaseException as error:
            # SystemExit would end the engine's loop, and StopIteration cannot cross it.
            if isinstance(error, ReplicaStartFailed):
                raise
            raise ReplicaStartFailed(
                f"{self._deployment.name} could not be loaded.\n{traceback.format_exc()}"
            ) from error
