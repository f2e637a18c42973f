"""Tests of `salver.offline.job`, `salver.offline.commit` and `salver.offline.results`."""

import asyncio
import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.jobs import LocalReplica, digests, predict, quarantined, rows_of, start, titles
from salver.errors import (
    InputUnreadable,
    InvalidOption,
    ManifestMismatch,
    MissingColumns,
    OutputExists,
    OutputInUse,
    TooManyBadRows,
)
from salver.offline.folder import held
from salver.offline.job import JobOptions, Progress
from salver.policies import Threshold
from salver.types import Batch, Outcomes

NAMES = [f"{'aeiou' * (i % 7)} title {i}" for i in range(50)]


class Interrupted(Exception):
    """Ends a job from inside a replica."""


class Stopping(LocalReplica):
    """Fails at the n-th batch."""

    def __init__(self, at: int, error: BaseException, **given: Any) -> None:
        super().__init__(**given)
        self._at, self._error = at, error

    async def run(self, batch: Batch) -> Outcomes:
        if len(self.batches) >= self._at:
            raise self._error
        return await super().run(batch)


def test_rows_keep_their_order_and_their_columns(tmp_path: Path) -> None:
    """Every row comes out once, in input order, with the input's columns and the results."""
    manifest = predict(titles(tmp_path / "in.csv", NAMES), tmp_path / "out", chunk_rows=16)
    rows = rows_of(tmp_path / "out")
    assert [row["title"] for row in rows] == NAMES
    assert [row["id"] for row in rows] == [str(i) for i in range(50)]
    assert set(rows[0]["probabilities"]) == {"few", "many"}
    assert rows[0]["prediction"] == "few"
    assert manifest["status"] == "finished"
    totals = {"rows": 50, "ok": 50, "bad": 0, "bad_by_code": {}, "abstained": 0}
    assert manifest["totals"] == totals
    assert manifest["result_columns"] == ["prediction", "probabilities"]
    assert sorted(os.listdir(tmp_path / "out")) == [
        "_SUCCESS",
        "_manifest.json",
        *(f"part-0000{i}.parquet" for i in range(4)),
    ]


def test_the_folder_is_a_table_for_others(tmp_path: Path) -> None:
    """pyarrow reads the folder as it is, quarantine and manifest notwithstanding."""
    predict(titles(tmp_path / "in.csv", ["a", "boom", "c"]), tmp_path / "out")
    assert pq.read_table(tmp_path / "out")["title"].to_pylist() == ["a", "c"]


def test_batches_hold_neighbours_in_length(tmp_path: Path) -> None:
    """Within a chunk rows are sorted by the length of their text, and cut at the batch size."""
    replica = LocalReplica()
    path = titles(tmp_path / "in.csv", ["x" * (i * 37 % 20) for i in range(20)])
    predict(path, tmp_path / "out", replica=replica, chunk_rows=10, max_batch_size=4)
    lengths = [[len(row[0]) for row in batch.rows] for batch in replica.batches]
    assert [len(batch) for batch in lengths] == [4, 4, 2, 4, 4, 2]
    for chunk in (lengths[:3], lengths[3:]):
        flat = [n for batch in chunk for n in batch]
        assert flat == sorted(flat)


def test_bad_rows_go_to_quarantine(tmp_path: Path) -> None:
    """Each failed row stands there once, with position, code, message and the row as read."""
    path = tmp_path / "in.csv"
    path.write_text(
        'id,title,description\n0,a,x\n1,boom,y\n2,"open,z\n3,nan,w\n4,too,many,cells\n5,f,g\n'
    )
    manifest = predict(path, tmp_path / "out", chunk_rows=4)
    assert [row["id"] for row in rows_of(tmp_path / "out")] == ["0", "5"]
    entries = quarantined(tmp_path / "out")
    assert [e["position"] for e in entries] == [
        {"file": "in.csv", "row": row, "line": row + 2} for row in (1, 2, 3, 4)
    ]
    codes = ["model_error", "malformed_row", "non_finite_output", "malformed_row"]
    assert [e["code"] for e in entries] == codes
    assert entries[0]["row"] == {"id": "1", "title": "boom", "description": "y"}
    assert "ValueError: boom" in entries[0]["detail"]
    assert entries[1]["row"] == '2,"open,z'
    assert entries[3]["row"] == ["4", "too", "many", "cells"]
    assert manifest["totals"]["bad_by_code"] == {
        "malformed_row": 2,
        "model_error": 1,
        "non_finite_output": 1,
    }


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_all_formats_hold_the_same_answers(tmp_path: Path, kind: str, format: str) -> None:
    """Any input format gives the same predictions in any output format."""
    rows = [{"title": name, "description": ""} for name in [*NAMES, "boom"]]
    path = tmp_path / f"in.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["title", "description"])
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    predict(path, tmp_path / "out", format=format, chunk_rows=20)
    parts = sorted((tmp_path / "out").glob(f"part-*.{format}"))
    if format == "parquet":
        found = rows_of(tmp_path / "out")
    elif format == "jsonl":
        found = [json.loads(line) for p in parts for line in p.read_text().splitlines()]
    else:
        found = [row for p in parts for row in csv.DictReader(p.read_text().splitlines())]
    share = [sum(c in "aeiou" for c in name) / len(name) for name in NAMES]
    many = "probabilities.many" if format == "csv" else "probabilities"
    got = [float(r[many]) if format == "csv" else r[many]["many"] for r in found]
    assert [r["title"] for r in found] == NAMES
    assert got == share
    assert [r["prediction"] for r in found] == ["many" if s > 0.5 else "few" for s in share]
    assert len(quarantined(tmp_path / "out")) == 1


def test_types_do_not_flip_between_parts(tmp_path: Path) -> None:
    """A chunk of abstentions alone (null) and one of failures alone change no schema."""
    names = ["aab"] * 4 + ["boom"] * 4 + ["aaa"] * 4
    replica = LocalReplica(policies=(Threshold(0.9),))
    path = titles(tmp_path / "in.csv", names)
    manifest = predict(path, tmp_path / "out", replica=replica, chunk_rows=4)
    parts = [tmp_path / "out" / p["part"]["file"] for p in manifest["parts"] if p["part"]]
    assert [p.name for p in parts] == ["part-00000.parquet", "part-00002.parquet"]
    schemas = [pq.read_schema(p) for p in parts]
    assert schemas[0].equals(schemas[1], check_metadata=True)
    assert schemas[0].field("prediction").type == pa.string()
    assert [r["prediction"] for r in rows_of(tmp_path / "out")] == [None] * 4 + ["many"] * 4
    assert manifest["totals"]["abstained"] == 4


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
def test_a_job_without_rows_leaves_an_empty_table(tmp_path: Path, format: str) -> None:
    """No rows, or no row that passes, is a finished job with one empty part."""
    manifest = predict(titles(tmp_path / "in.csv", []), tmp_path / "out", format=format)
    assert manifest["totals"]["rows"] == 0
    assert [p["rows"] for p in manifest["parts"]] == [0]
    assert (tmp_path / "out" / f"part-00000.{format}").exists()
    manifest = predict(titles(tmp_path / "b.csv", ["boom"]), tmp_path / "bad", format=format)
    assert manifest["totals"]["bad"] == 1
    again = predict(tmp_path / "b.csv", tmp_path / "bad", format=format, resume=True)
    assert again == {**manifest, "status": "already complete"}


def test_a_folder_of_files_is_one_table(tmp_path: Path) -> None:
    """Files follow each other; chunks may cross them; positions name the file."""
    (tmp_path / "in").mkdir()
    for i in range(5):
        titles(tmp_path / "in" / f"{i}.csv", [f"t{i}{j}" for j in range(3)] + ["boom"])
    predict(tmp_path / "in", tmp_path / "out", chunk_rows=8)
    wanted = [f"t{i}{j}" for i in range(5) for j in range(3)]
    assert [row["title"] for row in rows_of(tmp_path / "out")] == wanted
    assert [e["position"]["file"] for e in quarantined(tmp_path / "out")] == [
        f"{i}.csv" for i in range(5)
    ]


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    """Unless resume or overwrite is said; overwrite leaves nothing of the job before."""
    path = titles(tmp_path / "in.csv", NAMES)
    predict(path, tmp_path / "out", chunk_rows=10)
    with pytest.raises(OutputExists, match=r"a finished offline job.*--resume.*--overwrite"):
        predict(path, tmp_path / "out")
    predict(path, tmp_path / "out", chunk_rows=30, overwrite=True)
    predict(path, tmp_path / "fresh", chunk_rows=30)
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_an_input_that_cannot_be_read_deletes_nothing(tmp_path: Path) -> None:
    """Overwrite does not touch the old output before the new input is looked into."""
    predict(titles(tmp_path / "in.csv", NAMES), tmp_path / "out")
    before = digests(tmp_path / "out")
    (tmp_path / "bad.csv").write_text("nothing\n1\n")
    with pytest.raises(MissingColumns):
        predict(tmp_path / "bad.csv", tmp_path / "out", overwrite=True)
    with pytest.raises(InputUnreadable):
        predict(tmp_path / "none.csv", tmp_path / "out", overwrite=True)
    assert digests(tmp_path / "out") == before


def test_a_finished_job_is_not_done_again(tmp_path: Path) -> None:
    """Resume says that it is complete, asks no replica, and notices a part that was changed."""
    path = titles(tmp_path / "in.csv", NAMES)
    manifest = predict(path, tmp_path / "out")
    idle = LocalReplica()
    again = predict(path, tmp_path / "out", resume=True, replica=idle)
    assert again == {**manifest, "status": "already complete"}
    assert idle.batches == []
    (tmp_path / "out" / "part-00000.parquet").write_bytes(b"x")
    with pytest.raises(ManifestMismatch, match=r"part-00000\.parquet"):
        predict(path, tmp_path / "out", resume=True)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": "v2"}, "version"),
        ({"plan": {"policy": "other"}}, "plan.policy"),
        ({"max_batch_size": 5}, "plan.max_batch_size"),
        ({"chunk_rows": 11}, "options.chunk_rows"),
        ({"format": "csv"}, "options.format"),
        ({}, "input.in.csv.sha256"),
    ],
)
def test_resume_refuses_another_job(
    tmp_path: Path, change: dict[str, Any], named: str, finished: bool
) -> None:
    """Another model, plan, option or input is named, whether the job is finished or not."""
    path = titles(tmp_path / "in.csv", NAMES)
    if finished:
        predict(path, tmp_path / "out", chunk_rows=10)
    else:
        with pytest.raises(Interrupted):
            predict(path, tmp_path / "out", chunk_rows=10, replica=Stopping(7, Interrupted()))
    if not change:
        titles(path, NAMES[::-1])
    with pytest.raises(ManifestMismatch, match=named.replace(".", r"\.")):
        predict(path, tmp_path / "out", resume=True, **{"chunk_rows": 10, **change})


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("at", [0, 3, 6, 9, 14])
def test_an_interrupted_job_is_resumed_to_the_same_bytes(
    tmp_path: Path, at: int, format: str
) -> None:
    """Wherever a replica fails, the finished folder equals that of a job that was not cut."""
    names = ["aab"] * 8 + ["boom"] * 4 + NAMES
    policies = (Threshold(0.75),)
    path = titles(tmp_path / "in.csv", names)
    given: dict[str, Any] = {"chunk_rows": 8, "format": format}
    predict(path, tmp_path / "whole", replica=LocalReplica(policies=policies), **given)
    stopping = Stopping(at, Interrupted(), policies=policies)
    with pytest.raises(Interrupted):
        predict(path, tmp_path / "cut", replica=stopping, **given)
    assert (tmp_path / "cut" / "_INCOMPLETE").exists()
    rest = LocalReplica(policies=policies)
    manifest = predict(path, tmp_path / "cut", replica=rest, resume=True, **given)
    assert manifest["status"] == "finished"
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    if at >= 9:
        assert len(rest.batches) < 16  # what was committed is not computed again


def test_a_cancelled_job_can_be_resumed(tmp_path: Path) -> None:
    """Cancelling ends the job at once, stops its batches and lets the folder go."""
    path = titles(tmp_path / "in.csv", NAMES)

    class Hanging(LocalReplica):
        async def run(self, batch: Batch) -> Outcomes:
            if len(self.batches) == 6:
                reached.set()
                await asyncio.Event().wait()
            return await super().run(batch)

    async def cancelled() -> None:
        replica = Hanging(concurrency=1)
        job = asyncio.create_task(
            start(path, tmp_path / "out", replica=replica, chunk_rows=8, max_batch_size=4)
        )
        await reached.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert len(asyncio.all_tasks()) == 1

    reached = asyncio.Event()
    asyncio.run(cancelled())
    predict(path, tmp_path / "out", chunk_rows=8, resume=True)
    predict(path, tmp_path / "whole", chunk_rows=8)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_resume_starts_where_nothing_was_begun(tmp_path: Path) -> None:
    """The same command with resume works from the first time on."""
    path = titles(tmp_path / "in.csv", NAMES)
    assert predict(path, tmp_path / "out", resume=True)["totals"]["ok"] == 50


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """At once, naming the process that writes."""
    path = titles(tmp_path / "in.csv", NAMES)
    with held(tmp_path / "out"), pytest.raises(OutputInUse, match=str(os.getpid())):
        predict(path, tmp_path / "out", resume=True)


def test_too_many_bad_rows_stop_the_job(tmp_path: Path) -> None:
    """As many as allowed pass; one more stops, and a higher limit goes on from there."""
    path = titles(tmp_path / "in.csv", ["a", "boom", "c", "boom", "e", "boom"])
    assert predict(path, tmp_path / "a", max_bad_rows=3, chunk_rows=2)["totals"]["bad"] == 3
    with pytest.raises(TooManyBadRows, match=r"allows 2.*row 5, line 7.*higher limit"):
        predict(path, tmp_path / "b", max_bad_rows=2, chunk_rows=2)
    predict(path, tmp_path / "b", max_bad_rows=3, chunk_rows=2, resume=True)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_result_that_no_file_can_hold_fails_its_row(tmp_path: Path) -> None:
    """A prediction with a lone surrogate costs its own row only."""

    def model(batch: Any) -> list[str]:
        return ["\ud800" if title == "odd" else title for title in batch["title"]]

    path = titles(tmp_path / "in.csv", ["a", "odd", "c"])
    predict(path, tmp_path / "out", replica=LocalReplica(model))
    assert [row["prediction"] for row in rows_of(tmp_path / "out")] == ["a", "c"]
    assert [e["code"] for e in quarantined(tmp_path / "out")] == ["bad_model_output"]


def test_an_input_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    """The job does not end as if it had seen one state of the file."""
    path = titles(tmp_path / "in.csv", NAMES)

    class Appending(LocalReplica):
        async def run(self, batch: Batch) -> Outcomes:
            path.write_text(path.read_text() + "99,late,row\n")
            return await super().run(batch)

    with pytest.raises(InputUnreadable, match="was changed while it was read"):
        predict(path, tmp_path / "out", replica=Appending())
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_memory_is_bounded_by_few_chunks(tmp_path: Path) -> None:
    """The reader is never more than a few chunks ahead of what is committed."""
    path = titles(tmp_path / "in.csv", NAMES)
    ahead: list[int] = []

    class Watching(LocalReplica):
        async def run(self, batch: Batch) -> Outcomes:
            parts = len(list((tmp_path / "out").glob("part-*")))
            newest = max(int(row[0].split()[-1]) for row in batch.rows) // 5
            ahead.append(newest - parts)
            return await super().run(batch)

    predict(path, tmp_path / "out", replica=Watching(), chunk_rows=5)
    assert max(ahead) <= 2


def test_progress_adds_up(tmp_path: Path) -> None:
    """Rows, failures and bytes only grow, and end at the totals; resumed rows are told apart."""
    path = titles(tmp_path / "in.csv", [*NAMES, "boom"])
    seen: list[Progress] = []
    with pytest.raises(Interrupted):
        stopping = Stopping(9, Interrupted())
        predict(path, tmp_path / "out", replica=stopping, chunk_rows=8, progress=seen.append)
    predict(path, tmp_path / "out", chunk_rows=8, resume=True, progress=seen.append)
    assert seen[0].rows_before == 0
    last = seen[-1]
    assert last.finished and (last.rows_done, last.bad) == (51, 1)
    assert last.bytes_done == last.bytes_total == path.stat().st_size
    assert last.rows_before > 0 and last.rows_before % 8 == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("format", "xlsx"),
        ("max_bad_rows", -1),
        ("max_bad_rows", True),
        ("chunk_rows", 0),
        ("delimiter", "||"),
        ("delimiter", '"'),
    ],
)
def test_options_are_checked(option: str, value: Any) -> None:
    """A value that an option cannot take is refused with what it takes."""
    with pytest.raises(InvalidOption, match=f"'{option}' was given {value!r}".replace("|", r"\|")):
        JobOptions(**{option: value})
    with pytest.raises(InvalidOption, match="choose one"):
        JobOptions(resume=True, overwrite=True)
