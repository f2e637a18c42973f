"""A job over one in-process replica: the real pipeline around a small real model."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel

from salver.lengths import Characters, Lengths
from salver.offline.folder import QUARANTINE
from salver.offline.job import JobOptions, Progress, run_job
from salver.pipeline import Pipeline
from salver.policies import Policy
from salver.schema import Schema
from salver.types import Batch, Outcomes


class Project(BaseModel):
    """A row."""

    title: str
    description: str = ""


class Vowels:
    """Class probabilities from the share of vowels; `boom` raises, `nan` is not finite."""

    classes_ = ("few", "many")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One row of probabilities per text."""
        return {"probabilities": np.array([self._one(text) for text in batch["title"]])}

    def _one(self, text: str) -> list[float]:
        if "boom" in text:
            raise ValueError("boom")
        if "nan" in text:
            return [float("nan"), 0.5]
        share = sum(c in "aeiou" for c in text) / max(len(text), 1)
        return [1 - share, share]


class LocalReplica:
    """A replica in this process; records the sizes of its batches."""

    lengths: Lengths = Characters()

    def __init__(
        self,
        model: Callable[[Any], Any] | None = None,
        policies: tuple[Policy, ...] = (),
        concurrency: int = 2,
    ) -> None:
        self.pipeline = Pipeline(model or Vowels(), policies)
        self.concurrency = concurrency
        self.batches: list[Batch] = []

    async def run(self, batch: Batch) -> Outcomes:
        """One outcome per row."""
        self.batches.append(batch)
        await asyncio.sleep(0)
        return self.pipeline.run(batch)


async def start(input: Path | str, output: Path | str, **given: Any) -> dict[str, Any]:
    """One job; keywords that are no argument of `run_job` are options."""
    known = {
        "deployment": "Tagger",
        "schema": Schema(given.pop("model", Project)),
        "replica": LocalReplica(),
        "max_batch_size": 4,
        "version": "v1",
        "plan": {"policy": "none"},
        "progress": _ignored,
    }
    arguments = {name: given.pop(name, value) for name, value in known.items()}
    return await run_job(
        **arguments, input=str(input), output=str(output), options=JobOptions(**given)
    )


def predict(input: Path | str, output: Path | str, **given: Any) -> dict[str, Any]:
    """`start`, to its end."""
    return asyncio.run(start(input, output, **given))


def _ignored(_progress: Progress) -> None:
    pass


def rows_of(output: Path) -> list[dict[str, Any]]:
    """All rows of Parquet parts, in order."""
    return [
        row for part in sorted(output.glob("part-*")) for row in pq.read_table(part).to_pylist()
    ]


def quarantined(output: Path) -> list[dict[str, Any]]:
    """All entries of the quarantine, in order."""
    files = sorted((output / QUARANTINE).glob("part-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def digests(output: Path) -> dict[str, str]:
    """Every file of a finished folder and its digest."""
    return {
        str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(output.rglob("*"))
        if p.is_file()
    }


def titles(path: Path, names: list[str]) -> Path:
    """A CSV file with an id and these titles."""
    lines = [f"{i},{name},about {name}" for i, name in enumerate(names)]
    path.write_text("\n".join(["id,title,description", *lines]) + "\n")
    return path
