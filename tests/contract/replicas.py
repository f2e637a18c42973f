"""Starts any kind of replica on an event loop that waits between questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from models import TARGET

from salver.definition import Deployment
from salver.engine.loading import load_service
from salver.engine.pool import Pool
from salver.engine.replica import Birth, ProcessReplica, ThreadReplica, Worker
from salver.types import Batch, Outcome

KINDS = ("process", "thread", "pool of processes", "pool of threads")


def deployment(name: str) -> Deployment:
    """A deployment of `models.py`, as a child process sees it too."""
    return load_service(TARGET).deployments[name]


def batch_of(name: str, rows: Iterable[Any]) -> Batch:
    """Rows for a deployment; a text stands for a row of that text."""
    given = [row if isinstance(row, Mapping) else {"text": row} for row in rows]
    checked = deployment(name).schema.check_rows(given)
    assert not checked.rejected
    return checked.batch


class Running:
    """A replica or a pool that has started, with the loop it lives on."""

    def __init__(self, runner: asyncio.Runner, name: str, replica: Any) -> None:
        self._runner = runner
        self._name = name
        self.replica = replica

    def run(self, *rows: Any) -> list[Outcome]:
        """Outcomes of one batch."""

        async def ask() -> list[Outcome]:
            return list(await self.replica.run(batch_of(self._name, rows)))

        return self._runner.run(ask())

    def wait(self, coroutine: Any) -> Any:
        """Runs a coroutine on the loop of the replica."""
        return self._runner.run(coroutine)


@contextmanager
def running(
    kind: str, name: str, resolved: Any = None, threads: int = 1, devices: str | None = None
) -> Iterator[Running]:
    """A replica of one of the `KINDS`, started and at the end stopped."""
    served = deployment(name)

    def make(_index: int = 0) -> Worker:
        if "process" in kind:
            birth = Birth(TARGET, name, {}, resolved or {}, threads, devices)
            return ProcessReplica(birth, served)
        return ThreadReplica(served, resolved or {})

    with asyncio.Runner() as runner:

        async def start() -> Any:
            replica: Any = Pool(name, make, 2, 60.0) if kind.startswith("pool") else make()
            await replica.start()
            return replica

        replica = runner.run(start())
        try:
            yield Running(runner, name, replica)
        finally:
            runner.run(replica.stop())


def eventually(holds: Callable[[], Any], within_s: float = 5.0) -> Any:
    """The first true answer of `holds`, asked again and again.

    Raises:
        AssertionError: If there is none within `within_s` seconds.
    """
    end = time.monotonic() + within_s
    while not (answer := holds()):
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.01)
    return answer
