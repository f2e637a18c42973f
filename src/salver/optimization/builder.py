"""Has candidates made, in a process that may end at any of them, and keeps them in the cache.

A candidate of the same model, rows and libraries is made once. This module does not know how one is
made.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from salver import __version__
from salver.engine import children
from salver.engine.frames import pack
from salver.errors import CheckpointError, ConfigError, nearest
from salver.models.cache import CheckpointCache, Record
from salver.models.checkpoint import Checkpoint
from salver.models.manifest import Manifest
from salver.models.variants import Variant
from salver.models.variants.provenance import versions
from salver.models.variants.runtimes import instructions
from salver.optimization.recipes import OWN, RECIPES
from salver.settings import available_cores, cache_dir

TIMEOUT_S = 1800.0  # for one candidate; large networks take minutes to quantise
LONGEST_LINE = 1 << 24  # bytes; an error of an exporter may be long


@dataclass(frozen=True, slots=True)
class Built:
    """One candidate.

    Attributes:
        name: Its name.
        trouble: Why there is none; empty if there is.
        precision: What it computes in.
        checkpoint: Path, digest and source, as replicas are given them.
    """

    name: str
    trouble: str = ""
    precision: str = ""
    checkpoint: Mapping[str, str] = field(default_factory=dict)


class Builder:
    """See the module's description.

    Args:
        question: What the process is asked, see `salver.optimization.building`.
        version: Of the deployment.
        say: Tells what is being made.
    """

    def __init__(
        self, question: Mapping[str, Any], version: str, say: Callable[[str], None]
    ) -> None:
        self._question = question
        self._say = say
        self._cache = CheckpointCache(cache_dir())
        made_of = [version, __version__, question["batches"], instructions(), versions()]
        self._key = hashlib.sha256(pack(made_of)).hexdigest()
        self._built: dict[str, Built] = {}
        self._kind = ""  # of the part, once it is known

    async def build(self, only: Sequence[str], own: Mapping[str, Path]) -> list[Built]:
        """Makes the candidates.

        Args:
            only: Names of those that are wanted; empty for all that this model may have.
            own: Graphs of the user's own, by name.

        Raises:
            ConfigError: For a name that is no candidate.
            CheckpointError: If the model has no part that can be exchanged.
        """
        known = [recipe.name for recipe in RECIPES]
        for name in only:
            if name not in known:
                raise ConfigError(f"There is no candidate {name!r}. {nearest(name, known)}")
        graphs = {f"{OWN}{name}": str(path.resolve()) for name, path in own.items()}
        names = [*graphs, *(only or known)]
        for recipe in RECIPES:
            if recipe.name in names and (missing := recipe.missing()):
                self._built[recipe.name] = Built(recipe.name, missing)
        for name in set(names) - set(graphs):
            self._recall(name)
        while wanted := [name for name in names if name not in self._built]:
            await self._run({**self._question, "wanted": wanted, "own": graphs})
        return [self._built[name] for name in names if not self._is_for_others(name)]

    async def _run(self, question: Mapping[str, Any]) -> None:
        """One process, until it has made all that is wanted or ends."""
        under_way = ""
        with tempfile.TemporaryDirectory(prefix="salver-") as folder:
            content = pack({**question, "folder": folder, "sys_path": sys.path})
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "salver.optimization.building",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                # Quantisers keep whole models among temporary files, and may be killed.
                env={**children.environment(available_cores()), "TMPDIR": folder},
                limit=LONGEST_LINE,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(content)  # and left open: it ends with this process
            how = f"took longer than {TIMEOUT_S:,.0f} s"
            try:
                async for answer in _answers(process.stdout):
                    under_way = self._take(answer, under_way)
                code = await process.wait()
                how = f"ended with exit code {code}"
            except TimeoutError:
                pass
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if under_way and under_way not in self._built:
            self._built[under_way] = Built(under_way, f"the process that made it {how}")
        elif not under_way and any(name not in self._built for name in question["wanted"]):
            raise CheckpointError(
                f"The process that makes candidates {how} while it loaded the model. Its own "
                "output above says why."
            )

    def _take(self, answer: Mapping[str, Any], under_way: str) -> str:
        """Writes down what the process said; returns what it is making."""
        if "error" in answer:
            raise CheckpointError(answer["error"])
        if "kind" in answer:
            self._kind = answer["kind"]
            for recipe in RECIPES:
                if self._is_for_others(recipe.name):
                    self._built[recipe.name] = Built(
                        recipe.name, "it is for models of another kind"
                    )
        if "begun" in answer:
            self._say(f"Making {answer['begun']} ...")
            return str(answer["begun"])
        if "failed" in answer:
            self._built[answer["failed"]] = Built(answer["failed"], answer["reason"])
        if "made" in answer:
            self._keep(answer["made"], Path(answer["folder"]))
        return under_way

    def _keep(self, name: str, folder: Path) -> None:
        made = Checkpoint.open(folder)

        def copy(file: str, destination: Path, _size: int) -> None:
            shutil.copyfile(folder / file, destination)

        kept = self._cache.put(Manifest(made.files, made.metadata), copy, f"variant {name}")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if not name.startswith(OWN):
            self._cache.remember(self._of(name), Record(kept.digest, f"variant {name}", now))
        self._built[name] = self._found(name, kept)

    def _recall(self, name: str) -> None:
        record = self._cache.recall(self._of(name))
        if record is None:
            return
        try:
            kept = self._cache.get(record.digest, f"variant {name}")
            is_usable = kept is not None and not Variant.of(kept).changed()
        except CheckpointError:
            return  # it is made again
        if kept is not None and is_usable:
            self._built[name] = self._found(name, kept)

    def _found(self, name: str, kept: Checkpoint) -> Built:
        found = {"path": str(kept.path), "digest": kept.digest, "source": f"variant {name}"}
        variant = Variant.of(kept)
        self._kind = variant.kind
        return Built(name, "", variant.precision, found)

    def _is_for_others(self, name: str) -> bool:
        others = (one.name for one in RECIPES if self._kind not in one.kinds)
        return bool(self._kind) and name in others

    def _of(self, name: str) -> str:
        return f"variant {name} {self._key}"


async def _answers(lines: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """What the process says, until it closes its output.

    Raises:
        TimeoutError: If it says nothing for too long.
    """
    while True:
        async with asyncio.timeout(TIMEOUT_S):
            line = await lines.readline()
        if not line:
            return
        yield json.loads(line)
