"""Offline predictions: joins the replicas of an engine with rows in memory or an offline job.

It knows the engine and the job; it does not know HTTP or the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import fields
from os import PathLike, fspath
from typing import Any

from salver.engine.local import LocalEngine
from salver.errors import ConfigError, UnknownOption
from salver.offline.job import JobOptions, Progress, begun_batch_size, run_job
from salver.offline.results import batches
from salver.policies import described
from salver.types import Outcome, Row

WaitFor = Callable[[Coroutine[Any, Any, Any]], Any]


def predict(
    engine: LocalEngine, wait_for: WaitFor, data: Any, output: Any, options: Mapping[str, Any]
) -> Any:
    """Predicts a list of rows, a pandas DataFrame, or files; see `Service.predict`.

    Raises:
        ConfigError: If `data` is none of these, or paths come without `output`.
    """
    options = dict(options)
    deployment = engine.service.chosen(options.pop("deployment", None))
    if isinstance(data, str | PathLike):
        if output is None:
            raise ConfigError(
                f"predict({data!r}) reads files and needs a folder for the results: "
                "predict(data, 'out/')."
            )
        job = run_files(engine, deployment.name, fspath(data), fspath(output), options)
        return wait_for(job)
    if output is not None or options:
        raise ConfigError("output and options are for files; rows in memory are returned.")
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        # A missing value is null, as it is when the same frame comes as a Parquet file.
        rows = data.astype(object).where(data.notna(), None).to_dict("records")
        outcomes = wait_for(predict_rows(engine, deployment.name, rows))
        return _with_results(data, outcomes)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise ConfigError(
            f"predict was given a {type(data).__name__}; it takes a list of rows, a DataFrame, or "
            "the path of a file, a folder or a glob."
        )
    return [o.as_json() for o in wait_for(predict_rows(engine, deployment.name, list(data)))]


async def predict_rows(engine: LocalEngine, name: str, rows: list[Row]) -> list[Outcome]:
    """One outcome per row, in order; batches are cut as an offline job cuts them."""
    deployment = engine.deployment(name)
    checked = deployment.schema.check_rows(rows)
    outcomes = [Outcome(None, checked.rejected.get(i)) for i in range(len(rows))]
    replica = engine.offline_replica(name)
    gate = asyncio.Semaphore(replica.concurrency)

    async def run(group: list[int]) -> None:
        async with gate:
            answered = await replica.run(checked.batch.take(group))
        for i, outcome in zip(group, answered, strict=True):
            outcomes[checked.positions[i]] = outcome

    size = engine.job_batch_size(name)
    loop = asyncio.get_running_loop()
    groups = await loop.run_in_executor(None, batches, checked.batch, size, replica.lengths)
    await asyncio.gather(*(run(group) for group in groups))
    return outcomes


async def run_files(
    engine: LocalEngine,
    name: str,
    input: str,
    output: str,
    options: Mapping[str, Any],
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> dict[str, Any]:
    """Runs an offline job on the replicas of a started engine.

    Raises:
        UnknownOption: For an option that no job has.
        OfflineError: If the input cannot be read or the output cannot be written.
    """
    checked = job_options(options)
    deployment = engine.deployment(name)
    size = engine.job_batch_size(name)
    if checked.resume and engine.has_chosen_batch_size(name):
        size = begun_batch_size(output) or size  # floats depend on batch mates
    return await run_job(
        deployment=name,
        schema=deployment.schema,
        replica=engine.offline_replica(name),
        max_batch_size=size,
        version=engine.version(name),
        plan={
            "policies": [described(policy) for policy in deployment.policies],
            "batch_format": deployment.options.batch_format,
        },
        input=input,
        output=output,
        options=checked,
        progress=progress,
    )


def job_options(given: Mapping[str, Any]) -> JobOptions:
    """The options of a job.

    Raises:
        UnknownOption: For an option that no job has; names its neighbours.
        InvalidOption: For a value that one cannot take.
    """
    known = [f.name for f in fields(JobOptions)]
    for option, value in given.items():
        if option not in known:
            raise UnknownOption(option, value, known, "the options of an offline job")
    return JobOptions(**given)


def _with_results(frame: Any, outcomes: list[Outcome]) -> Any:
    """A copy of a DataFrame with a column per result, and `error` if any row failed."""
    names = dict.fromkeys(name for o in outcomes if o.value for name in o.value)
    failed = any(not o.ok for o in outcomes)
    taken = sorted({*names, *(["error"] if failed else [])} & set(map(str, frame.columns)))
    if taken:
        raise ConfigError(
            f"The DataFrame has columns named like results: {', '.join(taken)}. Rename them."
        )
    results = {name: [o.value[name] if o.value else None for o in outcomes] for name in names}
    if failed:
        results["error"] = [o.failure.message if o.failure else None for o in outcomes]
    return frame.assign(**results)
