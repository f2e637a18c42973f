"""The offline job: rows of files through the replicas of a deployment to an output folder.

Reader, check, batches, `Replica.run`, parts. A chunk of rows is the unit of commit, and its
batches depend on the chunk and the plan alone: a job that was killed anywhere and is resumed
leaves the same bytes as one that was not. It does not know how replicas are made, nor terminals.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from salver.engine.offline import OfflineReplica
from salver.errors import OutputExists
from salver.offline.commit import (
    Committer,
    JobOptions,
    begun_batch_size,
    completed,
    identity_of,
)
from salver.offline.folder import held, local_folder
from salver.offline.readers import Reader, open_reader
from salver.offline.results import Results, batches
from salver.offline.rows import Chunk, chunks
from salver.offline.sources import Source, find
from salver.offline.text_readers import BLOCK_ROWS
from salver.schema import Schema
from salver.types import Batch, Outcomes

__all__ = [
    "Begun",
    "JobOptions",
    "Progress",
    "begun",
    "begun_batch_size",
    "full_plan",
    "run_job",
]

RUNNING_CHUNKS = 2  # so that replicas stay busy while a chunk ends; one more is read ahead
PROGRESS_EVERY_S = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        rows_done: Rows that are answered or refused, those of earlier runs included.
        rows_before: Those of earlier runs.
        bad: Rows that failed, those of earlier runs included.
        bytes_done: Bytes of the input up to there, roughly.
        bytes_before: Those of earlier runs.
        bytes_total: Bytes of the input.
        started: `time.monotonic()` at the start of this run, seconds.
        finished: True in the last report.
    """

    rows_done: int
    rows_before: int
    bad: int
    bytes_done: float
    bytes_before: float
    bytes_total: int
    started: float
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """A job whose output folder is held, up to its first chunk that is not committed.

    Attributes:
        source: The files.
        reader: Reads them.
        committer: Writes what became of the rows.
        completed: The manifest, if there is nothing left to do.
    """

    source: Source
    reader: Reader
    committer: Committer
    completed: dict[str, Any] | None = None

    def chunks(self, schema: Schema, chunk_rows: int) -> Iterator[Chunk]:
        """The chunks that are left, in order."""
        _, _, at = self.committer.done()
        return chunks(
            self.reader.blocks(at, min(BLOCK_ROWS, chunk_rows)),
            schema.fields,
            first=self.committer.next_chunk,
            chunk_rows=chunk_rows,
            bytes_before=self.source.bytes_before,
        )


@contextmanager
def begun(
    *,
    deployment: str,
    schema: Schema,
    version: str,
    plan: Mapping[str, Any],
    input: str,
    output: str,
    options: JobOptions,
) -> Iterator[Begun]:
    """Opens input and output, and holds the output folder; it blocks.

    Args:
        deployment: Name of the deployment.
        schema: Checks the rows.
        version: Digest of what answers.
        plan: All else that shapes the answers; held against a job to resume.
        input: Path or URI of a file, a folder or a glob.
        output: Local folder.
        options: How to read and write.

    Raises:
        OfflineError: As `run_job`, before anything is deleted or written.
    """
    with held(local_folder(output)) as folder:
        if folder.begun and not (options.resume or options.overwrite):
            state = "a finished" if folder.finished else "an unfinished"
            raise OutputExists(
                f"The output folder {folder.path} holds {state} offline job. Say resume (--resume) "
                "to go on with it, overwrite (--overwrite) to delete it, or choose another folder."
            )
        source = find(input)
        # Before anything is deleted or written: an input that cannot be read changes nothing.
        reader = open_reader(
            source, schema, delimiter=options.delimiter, fill_defaults=options.fill_defaults
        )
        identity = identity_of(deployment, version, plan, options, source.fingerprint())
        committer = Committer(folder, identity, options, reader.columns)
        if folder.finished and options.resume:
            yield Begun(source, reader, committer, completed(folder, identity))
            return
        committer.open()
        yield Begun(source, reader, committer)


async def run_job(  # noqa: PLR0913 - all by name, and each is a thing of its own
    *,
    deployment: str,
    schema: Schema,
    replica: OfflineReplica,
    max_batch_size: int,
    version: str,
    plan: Mapping[str, Any],
    input: str,
    output: str,
    options: JobOptions,
    progress: Callable[[Progress], None],
) -> dict[str, Any]:
    """Predicts every row of the input, each exactly once, to the output or to quarantine.

    Args:
        deployment: Name of the deployment.
        schema: Checks the rows.
        replica: Answers the batches.
        max_batch_size: Most rows in a batch.
        version: Digest of what answers.
        plan: What else shapes the answers, such as policies; held against a job to resume.
        input: Path or URI of a file, a folder or a glob.
        output: Local folder.
        options: How to read and write.
        progress: Called at most ten times a second, and once at the end.

    Returns:
        The manifest. Its key `status`, which is not in the file, says "finished", or "already
        complete" when there was nothing left to do.

    Raises:
        InputUnreadable: If a file cannot be read; what is committed stays.
        MissingColumns: If the input lacks columns of the schema.
        OutputExists: If the folder is not empty, and neither resume nor overwrite is asked for.
        OutputInUse: If another job writes there.
        ManifestMismatch: If the job to resume was another one.
        TooManyBadRows: If more rows fail than `max_bad_rows`; what is committed stays.
        OfflineError: If the disk refuses; what is committed stays.
    """
    loop = asyncio.get_running_loop()
    opening = begun(
        deployment=deployment,
        schema=schema,
        version=version,
        plan=full_plan(plan, max_batch_size, replica.lengths.unit),
        input=input,
        output=output,
        options=options,
    )
    # The thread ends first, so that a folder it has just taken is let go.
    with ExitStack() as held_folder, ThreadPoolExecutor(1) as thread:
        job = await loop.run_in_executor(thread, held_folder.enter_context, opening)
        if job.completed is not None:
            return job.completed
        return await _Job(replica, max_batch_size, job, progress).run(schema, options.chunk_rows)


def full_plan(plan: Mapping[str, Any], max_batch_size: int, lengths_unit: str) -> dict[str, Any]:
    """All that shapes the answers of a job beside its model: also how its batches are cut."""
    return {**plan, "max_batch_size": max_batch_size, "lengths": lengths_unit}


_Cut = tuple[Chunk, list[list[int]]]


@dataclass(slots=True)
class _Running:
    """A chunk whose batches are under way."""

    chunk: Chunk
    groups: list[list[int]]
    tasks: list[asyncio.Task[Outcomes]]


class _Job:
    """Keeps the replicas busy, and commits chunks in order."""

    def __init__(
        self,
        replica: OfflineReplica,
        max_batch_size: int,
        begun: Begun,
        report: Callable[[Progress], None],
    ) -> None:
        self._replica = replica
        self._max_batch_size = max_batch_size
        self._begun = begun
        self._source = source = begun.source
        self._committer = begun.committer
        self._report = report
        self._reported = -PROGRESS_EVERY_S
        self._slots = asyncio.Semaphore(max(replica.concurrency, 1))
        rows, bad, at = begun.committer.done()
        passed = min(source.bytes_before[at.file] + at.offset, source.size)
        self._bytes_begun = passed
        self._progress = Progress(rows, rows, bad, passed, passed, source.size, time.monotonic())

    async def run(self, schema: Schema, chunk_rows: int) -> dict[str, Any]:
        """All chunks that are not committed yet, then the end."""
        loop = asyncio.get_running_loop()
        read = self._cut(schema, chunk_rows)
        running: deque[_Running] = deque()
        # One thread reads and one writes; leaving them waits for what is under way, so that
        # nothing is written to a folder that is no longer held.
        with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
            ahead = loop.run_in_executor(reading, next, read, None)
            try:
                while (cut := await ahead) is not None:
                    ahead = loop.run_in_executor(reading, next, read, None)
                    running.append(self._start(*cut))
                    if len(running) >= RUNNING_CHUNKS:
                        await self._end(running, writing)
                while running:
                    await self._end(running, writing)
                manifest = await loop.run_in_executor(
                    writing, self._committer.finish, self._source.refuse_changed
                )
            finally:
                ahead.cancel()
                await _cancelled([task for one in running for task in one.tasks])
        self._tell(replace(self._progress, bytes_done=self._source.size, finished=True))
        return {**manifest, "status": "finished"}

    def _cut(self, schema: Schema, chunk_rows: int) -> Iterator[_Cut]:
        """The chunks that are left, and how the rows of each go together."""
        for chunk in self._begun.chunks(schema, chunk_rows):
            yield chunk, batches(chunk.batch, self._max_batch_size, self._replica.lengths)

    def _start(self, chunk: Chunk, groups: list[list[int]]) -> _Running:
        row_bytes = (chunk.bytes_done - self._bytes_begun) / len(chunk)
        self._bytes_begun = chunk.bytes_done
        tasks = [
            asyncio.create_task(self._ask(chunk.batch.take(group), row_bytes)) for group in groups
        ]
        self._add(len(chunk.rejected), len(chunk.rejected), row_bytes)
        return _Running(chunk, groups, tasks)

    async def _ask(self, batch: Batch, row_bytes: float) -> Outcomes:
        async with self._slots:
            outcomes = await self._replica.run(batch)
        self._add(len(batch), len(outcomes.failures), row_bytes)
        return outcomes

    async def _end(self, running: deque[_Running], writing: ThreadPoolExecutor) -> None:
        """Waits for the oldest chunk and commits it."""
        oldest = running[0]
        outcomes = await asyncio.gather(*oldest.tasks)
        running.popleft()

        def commit() -> None:
            results = Results(oldest.chunk, oldest.groups, outcomes)
            self._committer.commit(oldest.chunk, results)

        await asyncio.get_running_loop().run_in_executor(writing, commit)

    def _add(self, rows: int, bad: int, row_bytes: float) -> None:
        now = self._progress
        self._tell(
            replace(
                now,
                rows_done=now.rows_done + rows,
                bad=now.bad + bad,
                bytes_done=now.bytes_done + rows * row_bytes,
            )
        )

    def _tell(self, progress: Progress) -> None:
        self._progress = progress
        now = time.monotonic()
        if progress.finished or now - self._reported >= PROGRESS_EVERY_S:
            self._reported = now
            self._report(progress)


async def _cancelled(tasks: list[asyncio.Task[Outcomes]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task
