"""Compares what a service answers on every path: the bare class, HTTP and an offline job.

The bare class is called directly, without the pipeline, so that a fault of the pipeline shows. All
paths get the same rows in the same batches, since floats depend on batch mates. Parity does not
know what a right answer is, only whether the answers are the same.
"""

from __future__ import annotations

import http.client
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from salver.bare import Answer, bare_answers
from salver.definition import Deployment
from salver.engine.planning import DEFAULT_BATCH_SIZE
from salver.engine.targets import load_service, pin
from salver.errors import InputUnreadable
from salver.lengths import Lengths
from salver.offline.folder import QUARANTINE
from salver.offline.job import JobOptions
from salver.offline.readers import open_reader
from salver.offline.results import batches
from salver.offline.rows import Cursor, chunks
from salver.offline.sources import find
from salver.offline.text_readers import BLOCK_ROWS
from salver.options import ServerSettings
from salver.predictions import run_files
from salver.service import Service
from salver.session import Configuration, Session
from salver.types import Batch

TOLERANCE = 1e-6  # absolute, of probabilities and other numbers
FORMAT = {"format": "jsonl"}  # of offline jobs: read again without types of its own
TIE = 1e-5  # labels may differ where the two largest probabilities are this near


@dataclass
class Report:
    """What was compared and where it differs.

    Attributes:
        rows: Rows compared.
        rejected: Rows that every path refused or failed.
        paths: Names of the paths compared.
        differences: One sentence per row and path that differs.
        largest: Largest absolute difference of a number that was accepted.
    """

    rows: int
    rejected: int
    paths: tuple[str, ...]
    differences: list[str] = field(default_factory=list)
    largest: float = 0.0

    @property
    def equal(self) -> bool:
        """True when no row differs."""
        return not self.differences

    def text(self) -> str:
        """The report for people."""
        lines = [
            f"{self.rows} rows through {', '.join(self.paths)}; {self.rejected} rejected alike.",
            f"Largest difference of a number: {self.largest:.1e} (allowed {TOLERANCE:.0e}).",
        ]
        if self.equal:
            return "\n".join([*lines, "Equal: every path gives the same outcomes."])
        shown = self.differences[:20]
        more = len(self.differences) - len(shown)
        lines += [f"{len(self.differences)} differences:", *shown]
        return "\n".join(lines + ([f"... and {more} more"] if more else []))


def compare(
    target: str,
    path: str,
    name: str | None,
    settings: Configuration,
    *,
    fill_defaults: bool = False,
    on_ray: bool = False,
) -> Report:
    """Runs every row of a file through every path of a deployment and compares the answers.

    Args:
        target: `module:attribute` of the service.
        path: CSV, JSON Lines or Parquet file.
        name: Deployment; may be null when the service exposes one.
        settings: Options given outside the code; `num_replicas` is 1, nothing waits, and no batch
            size is left to a measurement, so that batches are the same on every path.
        fill_defaults: Whether columns may be absent whose fields have a default.
        on_ray: Whether Ray Serve and Ray Data are compared too, on a Ray of their own.

    Raises:
        SalverError: If the service does not start or the rows cannot be read.
    """
    target = pin(target)
    service = load_service(target)
    chosen = service.chosen(name)
    same = ("num_replicas=1", "batch_wait_timeout_s=0", "max_queued_requests=null")
    configuration = replace(settings, sets=(*settings.sets, *same), server={"port": 0})
    overrides = configuration.overrides(service)
    for each, deployment in service.deployments.items():
        if overrides.options_for(each, deployment.options).max_batch_size is None:
            sized = f"{each}.max_batch_size={DEFAULT_BATCH_SIZE}"
            configuration = replace(configuration, sets=(*configuration.sets, sized))
    options = {**FORMAT, "fill_defaults": fill_defaults}
    session = Session(service)
    try:
        session.start(target, configuration)
        engine = session.engine
        assert engine is not None
        deployment = engine.deployment(chosen.name)
        lengths = engine.offline_replica(chosen.name).lengths
        rows = read(path, deployment, lengths, fill_defaults)
        answers = {
            "HTTP": _over_http(
                session.listen(ServerSettings(port=0)).address, service, deployment, rows
            ),
            "offline job": _offline(
                lambda out: session.wait_for(run_files(engine, chosen.name, path, out, options)),
                len(rows.given),
            ),
        }
        if not deployment.is_composed:
            answers = {
                "bare class": bare_answers(engine, deployment, len(rows.given), rows.batches),
                **answers,
            }
    finally:
        session.close()
    if on_ray:
        answers |= _on_ray(target, path, service, deployment, configuration, rows, options)
    return compared(answers)


def _on_ray(
    target: str,
    path: str,
    service: Service,
    deployment: Deployment,
    configuration: Configuration,
    rows: Rows,
    options: Mapping[str, Any],
) -> dict[str, list[Answer]]:
    from salver.cluster import life
    from salver.cluster.connection import Cluster

    def silent(_text: str) -> None:
        """Ray's own progress is enough."""

    settings = replace(configuration, server={"port": 0})
    with life.deployed(service, target, settings, silent, Cluster()) as url:
        over_http = _over_http(url, service, deployment, rows)

    def run(out: str) -> dict[str, Any]:
        return life.predict_files(
            service,
            target,
            configuration,
            silent,
            deployment=deployment.name,
            paths=(path, out),
            options=options,
            cluster=Cluster(),
        )

    return {"Ray Serve": over_http, "Ray Data": _offline(run, len(rows.given))}


@dataclass(frozen=True)
class Rows:
    """The rows of a file after the check.

    Attributes:
        given: Each row as read.
        batches: Rows that passed, in the batches that an offline job cuts, with their positions.
        rejected: Positions of all others.
    """

    given: list[Any]
    batches: list[tuple[list[int], Batch]]
    rejected: list[int]


def read(path: str, deployment: Deployment, lengths: Lengths, fill_defaults: bool) -> Rows:
    """All rows of one file, in batches by `lengths`; absent columns are filled if that is allowed.

    Raises:
        InputUnreadable: If it cannot be read, or is more than one file.
    """
    source = find(path)
    if len(source.files) != 1:
        raise InputUnreadable(f"{path} is {len(source.files)} files; parity compares one file.")
    schema, size = deployment.schema, deployment.options.max_batch_size
    reader = open_reader(source, schema, delimiter=None, fill_defaults=fill_defaults)
    chunk_rows = JobOptions().chunk_rows
    blocks = reader.blocks(Cursor(), min(BLOCK_ROWS, chunk_rows))
    rows = Rows([], [], [])
    for chunk in chunks(blocks, schema.fields, first=0, chunk_rows=chunk_rows, bytes_before=[0, 0]):
        before = len(rows.given)
        rows.given.extend(block.as_read(i) for block in chunk.blocks for i in range(len(block)))
        rows.rejected.extend(before + i for i in chunk.rejected)
        for group in batches(chunk.batch, size, lengths):
            positions = [before + chunk.positions[i] for i in group]
            rows.batches.append((positions, chunk.batch.take(group)))
    return rows


def compared(answers: Mapping[str, Sequence[Answer]]) -> Report:
    """Compares every path with the first."""
    names = tuple(answers)
    reference, *others = (answers[name] for name in names)
    n = len(reference)
    rejected = sum(all(answers[name][i] is None for name in names) for i in range(n))
    report = Report(n, rejected, names)
    for name, other in zip(names[1:], others, strict=True):
        for i, (left, right) in enumerate(zip(reference, other, strict=True)):
            why = _difference(left, right, report)
            if why:
                report.differences.append(f"row {i}, {names[0]} and {name}: {why}")
    return report


def _difference(left: Answer, right: Answer, report: Report) -> str | None:
    if left is None or right is None:
        return None if left is right else f"{_short(left)} against {_short(right)}"
    tie = _is_tie(left)
    for key in dict.fromkeys([*left, *right]):
        if key not in left or key not in right:
            return f"{key!r} is there only once"
        if key == "prediction" and tie:
            continue
        distance = _distance(left[key], right[key])
        if distance > TOLERANCE:
            return f"{key}: {_short(left[key])} against {_short(right[key])}"
        report.largest = max(report.largest, distance)
    return None


def _distance(left: Any, right: Any) -> float:
    """Largest absolute difference of two values; infinite if they differ in anything else."""
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if numbers and not isinstance(left, bool) and not isinstance(right, bool):
        return float(abs(left - right))
    if isinstance(left, Mapping) and isinstance(right, Mapping) and left.keys() == right.keys():
        return max((_distance(left[k], right[k]) for k in left), default=0.0)
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return max((_distance(a, b) for a, b in zip(left, right, strict=True)), default=0.0)
    return 0.0 if left == right else float("inf")


def _is_tie(answer: Mapping[str, Any]) -> bool:
    probabilities = answer.get("probabilities")
    if not isinstance(probabilities, Mapping) or len(probabilities) < 2:
        return False
    first, second = sorted(probabilities.values(), reverse=True)[:2]
    return bool(first - second < TIE)


def _short(value: Any) -> str:
    text = "rejected" if value is None else repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def _over_http(url: str, service: Service, deployment: Deployment, rows: Rows) -> list[Answer]:
    path = service.route_of(deployment)
    host, port = url.removeprefix("http://").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=300)
    answers: list[Answer] = [None] * len(rows.given)

    def ask(content: Any, n: int) -> list[Answer]:
        body = orjson.dumps(content, default=str, option=orjson.OPT_NON_STR_KEYS)
        connection.request("POST", path, body, {"content-type": "application/json"})
        results = orjson.loads(connection.getresponse().read()).get("results")
        return [None if "error" in r else r for r in results] if results else [None] * n

    names = deployment.schema.names
    for positions, batch in rows.batches:
        content = [dict(zip(names, row, strict=True)) for row in batch.rows]
        for position, answer in zip(positions, ask(content, len(batch)), strict=True):
            answers[position] = answer
    for position in rows.rejected:
        (answers[position],) = ask(rows.given[position], 1)  # HTTP has to refuse it by itself
    connection.close()
    return answers


def _offline(run: Callable[[str], dict[str, Any]], n: int) -> list[Answer]:
    """The answers of a job that `run` runs into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out")
        manifest = run(str(output))
        results = set(manifest["result_columns"])
        bad = {row["position"]["row"] for row in _lines(output / QUARANTINE)}
        good = _lines(output)
    answers: list[Answer] = [None] * n
    for position in range(n):
        if position not in bad:
            answers[position] = {k: v for k, v in next(good).items() if k in results}
    return answers


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    parts = sorted(folder.glob("part-*.jsonl"))
    return iter([orjson.loads(line) for part in parts for line in part.read_bytes().splitlines()])
