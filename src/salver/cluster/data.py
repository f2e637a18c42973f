"""An offline job on Ray Data: Salver's own chunks, answered by actors, committed in order.

One task reads and checks the input and hands out chunks, actors answer each as an embedded job
would, and the process that was started writes them: the same files, quarantine, journal and
manifest, so that a job may be begun on one engine and resumed on the other. Ray places, scales
and replaces the actors. This module does not know how an answer is found, nor how it is written.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.exceptions import RayError

from salver.cluster.replica import Assignment, ClusterReplica
from salver.cluster.serve import actor_options
from salver.definition import Deployment
from salver.engine.capabilities import check_rules
from salver.errors import ClusterError, ConfigError, SalverError, last_line
from salver.offline.job import Begun, JobOptions, begun, begun_batch_size, full_plan
from salver.offline.readers import open_reader
from salver.offline.results import Results, batches
from salver.offline.rows import Chunk, Cursor, chunks
from salver.offline.sources import find
from salver.offline.text_readers import BLOCK_ROWS
from salver.options import DeploymentOptions
from salver.policies import described
from salver.service import Service
from salver.types import Batch, Outcomes

CHUNK, ANSWERED = "chunk", "answered"  # columns of the one row of a block
MOST_ACTORS = 2  # where the definition names no number
FIRST_LOAD_S = 600.0  # the first actor loads the model and fetches what it needs

Answered = tuple[Chunk, list[list[int]], list[Outcomes]]


@dataclass(frozen=True)
class Reading:
    """What the task needs to read the chunks that are left; plain values only.

    Attributes:
        assignment: Where the service is found.
        deployment: Whose schema checks the rows.
        input: Path or URI.
        options: How to read.
        first: Number of the first chunk.
        at: Where it begins.
    """

    assignment: Assignment
    deployment: str
    input: str
    options: JobOptions
    first: int
    at: Cursor

    def chunks(self) -> Iterator[Chunk]:
        """The chunks, in order."""
        schema = self.assignment.service().deployments[self.deployment].schema
        source = find(self.input)
        options = self.options
        reader = open_reader(
            source, schema, delimiter=options.delimiter, fill_defaults=options.fill_defaults
        )
        yield from chunks(
            reader.blocks(self.at, min(BLOCK_ROWS, options.chunk_rows)),
            schema.fields,
            first=self.first,
            chunk_rows=options.chunk_rows,
            bytes_before=source.bytes_before,
        )


class ChunkSource(Datasource):  # type: ignore[misc]
    """The chunks of one input, each a block of one row.

    One task reads them, since where a chunk ends depends on all rows before it.

    Args:
        reading: What to read.
        size: Bytes of it.
    """

    def __init__(self, reading: Reading, size: int) -> None:
        super().__init__()
        self._reading = reading
        self._size = size

    @property
    def supports_distributed_reads(self) -> bool:
        """False: the input is that of the machine which has fingerprinted it."""
        return False

    def estimate_inmemory_data_size(self) -> int:
        """Bytes, roughly."""
        return self._size

    def get_read_tasks(self, _parallelism: int, *_args: Any, **_kwargs: Any) -> list[ReadTask]:
        """The one task."""
        reading = self._reading

        def read() -> Iterable[pd.DataFrame]:
            for chunk in reading.chunks():
                yield _block(CHUNK, [chunk])

        metadata = BlockMetadata(
            num_rows=None, size_bytes=self._size, input_files=None, exec_stats=None
        )
        return [ReadTask(read, metadata)]


class Answerer:
    """An actor of Ray Data: answers chunks with a replica of its own.

    Args:
        assignment: What to run.
        name: Of the deployment.
        max_batch_size: Most rows in a batch, as the manifest says.
    """

    def __init__(self, assignment: Assignment, name: str, max_batch_size: int) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._max_batch_size = max_batch_size
        self._name = name
        self._replica = ClusterReplica(assignment, name)
        self._wait(self._replica.start())

    def __call__(self, block: pd.DataFrame) -> pd.DataFrame:
        """Answers the chunks of a block."""
        return _block(ANSWERED, [self._wait(self._answered(chunk)) for chunk in block[CHUNK]])

    async def _answered(self, chunk: Chunk) -> Answered:
        replica = self._replica.engine.offline_replica(self._name)
        groups = batches(chunk.batch, self._max_batch_size, replica.lengths)
        gate = asyncio.Semaphore(replica.concurrency)

        async def run(batch: Batch) -> Outcomes:
            async with gate:
                return await replica.run(batch)

        outcomes = await asyncio.gather(*(run(chunk.batch.take(group)) for group in groups))
        return chunk, groups, list(outcomes)

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class Scout:
    """A replica that is asked, before a job begins, what the job's manifest has to say.

    Args:
        assignment: What to run.
        name: Of the deployment.
    """

    async def __init__(self, assignment: Assignment, name: str) -> None:  # type: ignore[misc]  # Ray awaits it
        self._replica = ClusterReplica(assignment, name)
        await self._replica.start()

    async def report(self) -> dict[str, Any]:
        """Version, rows in a batch and the unit of lengths."""
        engine, name = self._replica.engine, self._replica.name
        return {
            "version": engine.version(name),
            "max_batch_size": engine.job_batch_size(name),
            "lengths_unit": engine.offline_replica(name).lengths.unit,
        }


def run_files(
    deployment: Deployment,
    assignment: Assignment,
    *,
    input: str,
    output: str,
    options: JobOptions,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Runs a job on a connected cluster.

    Args:
        deployment: With its options as they are in force.
        assignment: What the actors run.
        input: Path or URI of a file, a folder or a glob.
        output: Local folder of this process.
        options: See `salver.offline.job.JobOptions`.
        say: Tells how the actors run.

    Returns:
        The manifest, as `salver.offline.job.run_job` gives it.

    Raises:
        ClusterError: If the actors cannot be started.
        OfflineError: As `salver.offline.job.run_job`.
    """
    name = deployment.name
    check_rules(deployment)
    found = _scouted(deployment, assignment)
    size: int = found["max_batch_size"]
    if options.resume and deployment.options.max_batch_size is None:
        size = begun_batch_size(output) or size  # floats depend on batch mates
    plan = {
        "policies": [described(policy) for policy in deployment.policies],
        "batch_format": deployment.options.batch_format,
    }
    opening = begun(
        deployment=name,
        schema=deployment.schema,
        version=found["version"],
        plan=full_plan(plan, size, found["lengths_unit"]),
        input=input,
        output=output,
        options=options,
    )
    with opening as job:
        if job.completed is not None:
            return job.completed
        _, _, at = job.committer.done()
        reading = Reading(assignment, name, input, options, job.committer.next_chunk, at)
        least, most = pool_bounds(deployment.options)
        say(f"{name}: {least} to {most} actors, batches of up to {size} rows")
        dataset = _dataset(deployment, assignment, ChunkSource(reading, job.source.size), size)
        _commit_all(dataset, job)
        manifest = job.committer.finish(job.source.refuse_changed)
    return {**manifest, "status": "finished"}


def pool_bounds(options: DeploymentOptions) -> tuple[int, int]:
    """Fewest and most actors: `num_replicas`, or the bounds of `autoscaling_config`."""
    config = options.autoscaling_config or {}
    if isinstance(options.num_replicas, int):
        return options.num_replicas, options.num_replicas
    least = max(1, int(config.get("min_replicas", 1)))  # a job has no use for none
    return least, max(least, int(config.get("max_replicas", MOST_ACTORS)))


def _dataset(
    deployment: Deployment, assignment: Assignment, source: ChunkSource, size: int
) -> Dataset:
    context = DataContext.get_current()
    context.execution_options.preserve_order = True  # parts are committed in the input's order
    context.target_max_block_size = 1  # each chunk is a block: it is answered as soon as it is read
    context.batch_to_block_arrow_format = False  # a chunk is no column of Arrow's
    context.raise_original_map_exception = True
    least, most = pool_bounds(deployment.options)
    resources = resources_of(deployment, assignment)
    # Reading asks for no core: the actors may hold all of them, and wait for it.
    return ray.data.read_datasource(source, num_cpus=0, override_num_blocks=1).map_batches(
        Answerer,
        fn_constructor_kwargs={
            "assignment": assignment,
            "name": deployment.name,
            "max_batch_size": size,
        },
        batch_size=1,
        batch_format="pandas",
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=resources.pop("num_cpus"),
        num_gpus=resources.pop("num_gpus") or None,
        **resources,
    )


def resources_of(deployment: Deployment, assignment: Assignment) -> dict[str, Any]:
    """What one actor asks of the cluster: room for every model that it loads.

    Raises:
        ConfigError: If two models ask for what one actor cannot have.
    """
    total: dict[str, Any] = {"num_cpus": 0, "num_gpus": 0}
    for one in Service(deployment).deployments.values():
        if one.is_composed:
            continue
        for name, value in actor_options(assignment.options_of(one)).items():
            if isinstance(value, int | float):
                total[name] = total.get(name, 0) + value
            elif name == "resources":
                before = total.setdefault(name, {})
                total[name] = {**before, **{k: before.get(k, 0) + v for k, v in value.items()}}
            elif total.get(name, value) != value:
                raise ConfigError(
                    f"{deployment.name} cannot run as one actor: {name} of its models is "
                    f"{total[name]!r} and {value!r}. Give them the same."
                )
            else:
                total[name] = value
    return total


def _commit_all(dataset: Dataset, job: Begun) -> None:
    try:
        blocks = iter(dataset.iter_batches(batch_size=1, batch_format="pandas"))
        answered = (one for block in blocks for one in block[ANSWERED])
        for chunk, groups, outcomes in answered:
            job.committer.commit(chunk, Results(chunk, groups, outcomes))
    except RayError as error:
        raise _known(error) or ClusterError(
            f"The job was given up, what is committed stays (--resume goes on): {last_line(error)}"
        ) from error


def _known(error: BaseException | None) -> SalverError | None:
    """What Salver itself has said in another process, such as that a file cannot be read."""
    while error is not None:
        if isinstance(error, SalverError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None


def _scouted(deployment: Deployment, assignment: Assignment) -> dict[str, Any]:
    resources = resources_of(deployment, assignment)
    scout = ray.remote(Scout).options(**resources).remote(assignment, deployment.name)
    try:
        found: dict[str, Any] = ray.get(scout.report.remote(), timeout=FIRST_LOAD_S)
    except RayError as error:
        raise _known(error) or ClusterError(
            f"{deployment.name} could not be loaded: {last_line(error)}"
        ) from error
    finally:
        ray.kill(scout)
    return found


def _block(column: str, values: Iterable[Any]) -> pd.DataFrame:
    """Values that Ray carries as they are; nothing outside this job ever makes one."""
    return pd.DataFrame({column: pd.Series(list(values), dtype=object)})
