"""What only a child process can promise: an end that hurts nobody and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from replicas import eventually, running

from salver.engine.replica import THREAD_VARIABLES
from salver.errors import ReplicaDied, ReplicaStartFailed


def is_alive(pid: int) -> bool:
    """True when the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_threads_and_devices_are_set_before_anything_is_imported() -> None:
    """The child's environment holds its share of cores and its GPUs when the model is made."""
    with running("process", "Process", threads=3, devices="4,5") as replica:
        (outcome,) = replica.run("environment")
    expected = {**dict.fromkeys(THREAD_VARIABLES, "3"), "CUDA_VISIBLE_DEVICES": "4,5"}
    assert expected == outcome["prediction"]


@pytest.mark.parametrize("how", ["crash", "SIGKILL"])
def test_a_child_that_ends_holding_a_batch_is_replica_died(how: str) -> None:
    """The caller hears ReplicaDied at once, and every later question too."""
    with running("process", "Process") as replica:
        if how == "SIGKILL":
            os.kill(replica.replica.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(ReplicaDied):
                replica.run("crash")
        assert replica.replica.has_ended()


def test_a_pool_replaces_a_child_that_crashed() -> None:
    """After a crash both places are taken again and answer."""
    with running("pool of processes", "Process") as pool:
        with pytest.raises(ReplicaDied):
            pool.run("crash")
        eventually(lambda: pool.run("pid") and pool.replica.healthy == 2, within_s=20)


def test_a_child_that_ends_while_it_loads_is_reported() -> None:
    """The exit code is named, since nothing else is known."""
    with pytest.raises(ReplicaStartFailed, match="exit code 7"), running("process", "CrashesAtStart"):
        raise AssertionError("it started")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_end_of_a_replica_takes_its_children_along(how: str) -> None:
    """Neither the child nor what the model spawned outlives it, and no zombie stays."""
    with running("process", "Process") as replica:
        child, grandchild = (o["prediction"] for o in replica.run("pid", "spawn"))
        assert is_alive(child)
        assert is_alive(grandchild)
        if how == "kill":
            replica.replica.kill()
    eventually(lambda: not is_alive(child) and not is_alive(grandchild))
    eventually(lambda: not Path(f"/proc/{child}").exists())


def test_signals_to_the_whole_group_do_not_end_a_replica() -> None:
    """Ctrl-C and SIGTERM are the engine's to answer; it drains and then ends its replicas."""
    with running("process", "Process") as replica:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(replica.replica.pid, number)
        assert [replica.replica.pid] == [o["prediction"] for o in replica.run("pid")]
