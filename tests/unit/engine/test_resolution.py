"""Resolution of checkpoint references in a child process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from salver import Checkpoint, checkpoint, deployment
from salver.definition import Deployment
from salver.engine import resolution
from salver.engine.resolution import on_this_machine, resolve_all
from salver.errors import CheckpointError, TrackingError


class Text(BaseModel):
    text: str


class Model:
    def __init__(self, *weights: Any, other: Any = None) -> None: ...

    def __call__(self, batch: Any) -> Any: ...


def bound(name: str, *args: Any, **kwargs: Any) -> Deployment:
    return deployment(input=Text, name=name)(type(name, (Model,), {})).bind(*args, **kwargs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint."""
    path = tmp_path / "weights"
    path.mkdir()
    (path / "w.bin").write_bytes(b"123")
    Checkpoint.create(path)
    return path


def test_nothing_to_resolve_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without checkpoints pays no child process."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    assert {} == asyncio.run(resolve_all([bound("A"), bound("B", 1, other="x")]))


def test_each_reference_is_resolved_to_a_folder_and_a_digest(folder: Path) -> None:
    """By deployment and place; an equal reference is asked for once and shared."""
    one = checkpoint(str(folder))
    found = asyncio.run(
        resolve_all(
            [bound("A", one, other=checkpoint(str(folder))), bound("B", 1, one), bound("C")]
        )
    )

    assert {"A": {"0", "other"}, "B": {"1"}} == {
        name: set(places) for name, places in found.items()
    }
    assert found["A"]["0"] is found["B"]["1"]
    assert Checkpoint.open(folder).digest == found["A"]["0"]["digest"]


def test_an_error_of_the_child_keeps_its_kind(folder: Path) -> None:
    """What the resolver refuses is raised here as the same error, with its message."""
    (folder / "w.bin").write_bytes(b"124")

    with pytest.raises(CheckpointError, match=r"w\.bin"):
        asyncio.run(resolve_all([bound("A", checkpoint(str(folder)))]))


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A resolver that never answers; the file will hold its process id."""
    note = tmp_path / "pid"
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho $$ > {note}.part; mv {note}.part {note}\nexec sleep 600\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    return note


def ended(note: Path) -> bool:
    try:
        os.kill(int(note.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_resolver_that_hangs_is_ended(
    stuck: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the limit the error names what could not be resolved, and no process is left."""
    monkeypatch.setattr(resolution, "RESOLVE_TIMEOUT_S", 1)

    with pytest.raises(TrackingError, match=r"weights.*more than 1 s"):
        asyncio.run(resolve_all([bound("A", checkpoint(str(folder)))]))

    assert ended(stuck)


def test_a_start_that_is_given_up_ends_the_resolver(stuck: Path, folder: Path) -> None:
    """Ctrl-C while a checkpoint is looked up leaves no process behind."""

    async def scenario() -> None:
        task = asyncio.ensure_future(resolve_all([bound("A", checkpoint(str(folder)))]))
        end = time.monotonic() + 20
        while not os.path.exists(stuck):  # noqa: ASYNC240
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended(stuck)

    asyncio.run(scenario())


def test_a_resolver_that_ends_without_an_answer_is_an_error(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the exit code."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 9\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))

    with pytest.raises(TrackingError, match="exit code 9"):
        asyncio.run(resolve_all([bound("A", checkpoint(str(folder)))]))


def test_a_checkpoint_that_is_here_is_used(folder: Path) -> None:
    """As another machine has resolved it, without asking anybody."""
    one = bound("A", checkpoint(str(folder)))
    resolved = asyncio.run(resolve_all([one]))

    assert resolved == asyncio.run(on_this_machine([one], resolved))


def test_a_folder_of_another_machine_is_a_clear_error(folder: Path) -> None:
    """No registry has it, so it cannot be fetched."""
    one = bound("A", checkpoint(str(folder)))
    resolved = asyncio.run(resolve_all([one]))
    resolved["A"]["0"]["path"] = "/not/here"

    with pytest.raises(CheckpointError, match="is not on this machine"):
        asyncio.run(on_this_machine([one], resolved))
