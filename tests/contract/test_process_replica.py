"""What only a child process can promise: an end that hurts nobody and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from process_models import service

from salver.engine.children import THREAD_VARIABLES
from salver.engine.pool import Pool
from salver.engine.replica import Birth, ProcessReplica
from salver.errors import ReplicaDied, ReplicaStartFailed
from salver.types import Batch


class Running:
    """A started replica or pool, on an event loop that waits between questions."""

    def __init__(self, runner: asyncio.Runner, replica: Any) -> None:
        self._runner = runner
        self.replica = replica

    def ask(self, *about: str) -> list[Any]:
        """The predictions of one batch."""
        fields = service.deployments["Process"].schema.fields

        async def run() -> list[Any]:
            outcomes = await self.replica.run(Batch(fields, [(one,) for one in about]))
            return [outcome["prediction"] for outcome in outcomes]

        return self._runner.run(run())


@contextmanager
def running(name: str = "Process", replicas: int = 1, **birth: Any) -> Iterator[Running]:
    """One process, or a pool of several."""
    deployment = service.deployments[name]
    born = Birth("process_models:service", name, {}, {}, **{"threads": 1, **birth})

    def make(_index: int = 0) -> ProcessReplica:
        return ProcessReplica(born, deployment)

    with asyncio.Runner() as runner:

        async def start() -> Any:
            replica: Any = make() if replicas == 1 else Pool(name, make, replicas, 60.0)
            await replica.start()
            return replica

        replica = runner.run(start())
        try:
            yield Running(runner, replica)
        finally:
            runner.run(replica.stop())


def eventually(holds: Callable[[], Any], within_s: float = 10.0) -> None:
    """Waits until `holds`, and no longer than that."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """True when the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_threads_and_devices_are_set_before_the_model_is_made() -> None:
    """The child's environment holds its share of the cores and its GPUs."""
    with running(threads=3, devices="4,5") as process:
        (seen,) = process.ask("environment")
    assert {**dict.fromkeys(THREAD_VARIABLES, "3"), "CUDA_VISIBLE_DEVICES": "4,5"} == seen


def test_large_answers_arrive_whole() -> None:
    """Tens of megabytes cross the socket in one frame, and small answers after them."""
    with running() as process:
        assert [10_000_000] * 3 == [len(text) for text in process.ask(*["megabytes"] * 3)]
        assert [process.replica.pid] == process.ask("pid")


@pytest.mark.parametrize("how", ["crash", "SIGKILL"])
def test_a_child_that_ends_holding_a_batch_is_replica_died(how: str) -> None:
    """The caller hears ReplicaDied, and so does everybody who asks later."""
    with running() as process:
        if how == "SIGKILL":
            os.kill(process.replica.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(ReplicaDied):
                process.ask("crash")
        assert process.replica.has_ended()


def test_a_pool_replaces_a_child_that_crashed() -> None:
    """After a crash both places are taken again, by another process in one of them."""
    with running(replicas=2) as pool:
        with pytest.raises(ReplicaDied):
            pool.ask("crash")
        eventually(lambda: pool.ask("pid") and pool.replica.healthy == 2, within_s=30)
        assert 1 == sum(slot.restarts for slot in pool.replica.slots)


def test_a_child_that_ends_while_it_loads_is_reported() -> None:
    """The error names the exit code and where to look."""
    says = r"CrashesAtStart ended with exit code 7.*output above"
    with pytest.raises(ReplicaStartFailed, match=says), running("CrashesAtStart"):
        raise AssertionError("it started")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_end_of_a_replica_takes_its_children_along(how: str) -> None:
    """Neither the child nor what the model spawned outlives it, and no zombie stays."""
    with running() as process:
        child, grandchild = process.ask("pid", "spawn")
        assert is_alive(child)
        assert is_alive(grandchild)
        if how == "kill":
            process.replica.kill()
    eventually(lambda: not is_alive(grandchild) and not Path(f"/proc/{child}").exists())


def test_signals_to_the_whole_group_do_not_end_a_replica() -> None:
    """Ctrl-C and SIGTERM are the engine's to answer; it drains and then ends its replicas."""
    with running() as process:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.replica.pid, number)
        assert [process.replica.pid] == process.ask("pid")
