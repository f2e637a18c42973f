"""Child processes: what they are given, and that none is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salver.engine import children

PATIENCE_S = 30.0


def ended(pid: int) -> bool:
    """Whether a process ends within a time."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        os.sched_yield()
    return False


def variables(child: children.Child) -> dict[str, str]:
    raw, end = "", time.monotonic() + PATIENCE_S
    while "PATH=" not in raw and time.monotonic() < end:  # it may not have begun to run
        raw = Path(f"/proc/{child.process.pid}/environ").read_bytes().decode()
    return dict(pair.partition("=")[::2] for pair in raw.split("\0") if pair)


@pytest.fixture(autouse=True)
def nothing_ahead() -> Iterator[None]:
    children.discard()
    yield
    children.discard()


@pytest.mark.parametrize(("threads", "devices"), [(1, None), (3, "1,2"), (2, "")])
def test_a_child_is_given_its_threads_and_devices(threads: int, devices: str | None) -> None:
    """In its environment, before it imports anything that reads it."""
    child = children.spawn(children.environment(threads, devices))
    try:
        found = variables(child)
        assert {str(threads)} == {found[name] for name in children.THREAD_VARIABLES}
        inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
        assert (inherited if devices is None else devices) == found.get("CUDA_VISIBLE_DEVICES")
    finally:
        child.end()
    assert ended(child.process.pid)


def test_a_child_that_was_started_ahead_is_taken_once() -> None:
    """By the first that asks for one like it; the next gets another."""
    children.spawn_ahead(1)
    ahead = children._ahead
    first, second = children.take(1, None), children.take(1, None)
    try:
        assert first is ahead
        assert first.process.pid != second.process.pid
    finally:
        first.end()
        second.end()


@pytest.mark.parametrize(("threads", "devices"), [(2, None), (1, "0")])
def test_one_that_does_not_fit_is_ended(threads: int, devices: str | None) -> None:
    """Its environment cannot be changed any more."""
    children.spawn_ahead(1)
    ahead = children._ahead
    child = children.take(threads, devices)
    try:
        assert ahead is not None
        assert child is not ahead
        assert ended(ahead.process.pid)
    finally:
        child.end()


def test_one_that_began_in_another_environment_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a service sets when it is imported reaches every replica."""
    children.spawn_ahead(1)
    ahead = children._ahead
    monkeypatch.setenv("SET_BY_THE_SERVICE", "1")
    child = children.take(1, None)
    try:
        assert child is not ahead
        assert "1" == variables(child)["SET_BY_THE_SERVICE"]
    finally:
        child.end()


def test_one_that_has_died_is_not_taken() -> None:
    """Another is started in its place."""
    children.spawn_ahead(1)
    ahead = children._ahead
    assert ahead is not None
    os.kill(ahead.process.pid, signal.SIGKILL)
    ahead.process.wait()
    child = children.take(1, None)
    try:
        assert child is not ahead
        assert child.process.poll() is None
    finally:
        child.end()


def test_one_that_nobody_took_is_ended() -> None:
    """And so is the one before, when another is started ahead."""
    children.spawn_ahead(1)
    first = children._ahead
    children.spawn_ahead(1)
    second = children._ahead
    children.discard()
    children.discard()
    assert first is not None
    assert second is not None
    assert ended(first.process.pid)
    assert ended(second.process.pid)


def test_a_child_ends_with_its_lifeline() -> None:
    """As when the engine has ended, however it ended."""
    child = children.spawn(children.environment(1))
    os.close(child.lifeline)
    try:
        assert ended(child.process.pid)
    finally:
        child.channel.close()
        children.end_group(child.process)
