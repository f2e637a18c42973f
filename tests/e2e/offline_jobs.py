"""Offline jobs in processes of their own, to be killed or measured.

Run as a program: `crashes FOLDER FORMAT` kills a job at every point at which it touches the disk
or a replica, and resumes it; `peak FOLDER ROWS` runs a job and tells its peak memory;
`hold FOLDER` runs a job that never ends. Each prints JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from salver.lengths import Characters
from salver.offline.job import JobOptions, run_job
from salver.pipeline import Pipeline
from salver.policies import Threshold
from salver.schema import Schema
from salver.types import Batch, Outcomes

WATCHED = ("fsync", "replace", "unlink", "mkdir", "rmdir")


class Project(BaseModel):
    """A row."""

    title: str
    description: str = ""


class Tagger:
    """Probabilities from the length of the title; `boom` raises."""

    classes_ = ("short", "long")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One row of probabilities per title."""
        if any("boom" in title for title in batch["title"]):
            raise ValueError("boom")
        share = np.array([min(len(title), 20) / 20 for title in batch["title"]])
        return {"probabilities": np.stack([1 - share, share], axis=1)}


class LocalReplica:
    """A replica in this process."""

    lengths = Characters()
    concurrency = 2

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._pipeline = Pipeline(Tagger(), (Threshold(0.6),))
        self._before = before

    async def run(self, batch: Batch) -> Outcomes:
        """One outcome per row."""
        self._before()
        return self._pipeline.run(batch)


def job(input: Path, output: Path, replica: Any, **options: Any) -> dict[str, Any]:
    """One job from start to end."""
    return asyncio.run(
        run_job(
            deployment="Tagger",
            schema=Schema(Project),
            replica=replica,
            max_batch_size=options.pop("max_batch_size", 4),
            version="v1",
            plan={},
            input=str(input),
            output=str(output),
            options=JobOptions(**options),
            progress=lambda _progress: None,
        )
    )


def digests(output: Path) -> dict[str, str]:
    """Every file of a folder and its digest."""
    return {
        str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(output.rglob("*"))
        if p.is_file()
    }


def killed_at(point: int, run: Callable[[Callable[[], None]], Any]) -> bool:
    """Runs in a child that kills itself before the given point; false if it ended before."""
    child = os.fork()
    if child == 0:
        left = point

        def passing() -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        for name in WATCHED:
            setattr(os, name, _passing_before(getattr(os, name), passing))
        try:
            run(passing)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the job failed before point {point}")
    return os.WIFSIGNALED(status)


def _passing_before(call: Callable[..., Any], passing: Callable[[], None]) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        passing()
        return call(*args, **kwargs)

    return watched


def crashes(folder: Path, format: str) -> dict[str, Any]:
    """Kills a job at each point in turn, and once more while it resumes."""
    titles = ["x" * 10] * 8 + ["boom"] * 8 + [f"{'y' * (i % 20)}{i}" for i in range(13)]
    given = folder / "in.jsonl"
    lines = [{"title": t, "description": "", "n": i} for i, t in enumerate(titles)]
    lines[20]["late"] = 0.5  # so that earlier parts are widened at the end
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run(output: Path) -> Callable[[Callable[[], None]], Any]:
        return lambda passing: job(
            given, output, LocalReplica(passing), format=format, chunk_rows=8, resume=True
        )

    killed_at(10**9, run(folder / "whole"))
    wanted = digests(folder / "whole")
    different = []
    point = 0
    while killed_at(point, run(folder / f"cut{point}")):
        output = folder / f"cut{point}"
        killed_at(point * 7 % 23, run(output))
        killed_at(10**9, run(output))
        if digests(output) != wanted:
            different.append(point)
        point += 1
    return {"points": point, "different": different, "files": sorted(wanted)}


def peak(folder: Path, rows: int) -> dict[str, Any]:
    """Predicts a CSV file of so many rows; tells the peak memory in MB."""
    given = folder / f"{rows}.csv"
    with given.open("w") as file:
        file.write("id,title,description\n")
        for i in range(rows):
            title = "boom" if i % 1000 == 999 else f"title {i}"
            file.write(f"{i},{title},{'some text ' * (1 + i % 40)}\n")
    begun = time.monotonic()
    manifest = job(given, folder / f"out{rows}", LocalReplica(), max_batch_size=32)
    return {
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": time.monotonic() - begun,
        "totals": manifest["totals"],
    }


def hold(folder: Path) -> None:
    """Starts a job whose first batch waits for the end of standard input."""

    def wait() -> None:
        print(json.dumps({"pid": os.getpid()}), flush=True)  # noqa: T201
        sys.stdin.read()

    given = folder / "in.csv"
    if not given.exists():
        given.write_text("title,description\na,b\n")
    job(given, folder / "out", LocalReplica(wait))


def main() -> None:
    """See the module."""
    verb, folder, *rest = sys.argv[1:]
    if verb == "hold":
        hold(Path(folder))
    elif verb == "peak":
        print(json.dumps(peak(Path(folder), int(rest[0]))))  # noqa: T201
    else:
        print(json.dumps(crashes(Path(folder), rest[0])))  # noqa: T201


if __name__ == "__main__":
    main()
