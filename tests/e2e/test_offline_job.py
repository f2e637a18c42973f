"""Offline jobs in processes of their own: killed anywhere, two at a time, and over many rows."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

PROGRAM = Path(__file__).with_name("offline_jobs.py")


def run(*arguments: Any) -> Any:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
def test_a_job_killed_anywhere_is_finished_to_the_same_bytes(tmp_path: Path, format: str) -> None:
    """SIGKILL before every fsync, rename, deletion and batch, and again while resuming."""
    report = run("crashes", tmp_path, format)
    assert report["points"] >= 35
    assert report["different"] == []
    assert "_manifest.json" in report["files"] and "_SUCCESS" in report["files"]
    assert not [name for name in report["files"] if name.startswith(".") or "journal" in name]


def test_a_second_job_on_one_output_is_refused_at_once(tmp_path: Path) -> None:
    """The refusal names the process that writes, and leaves its job alone."""
    command = [sys.executable, str(PROGRAM), "hold", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdin is not None and first.stdout is not None
        pid = json.loads(first.stdout.readline())["pid"]
        second = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert second.returncode != 0
        assert "OutputInUse" in second.stderr and f"process {pid}" in second.stderr
        first.stdin.close()
    assert first.returncode == 0
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.slow
def test_memory_stays_flat_over_100_000_rows(tmp_path: Path) -> None:
    """Ten times the rows take hardly more memory; each row ends once in output or quarantine."""
    few = run("peak", tmp_path, 10_000)
    begun = time.monotonic()
    many = run("peak", tmp_path, 100_000)
    assert time.monotonic() - begun < 120
    assert many["megabytes"] < few["megabytes"] + 40
    assert many["totals"]["bad"] == 100
    output = tmp_path / "out100000"
    good = ds.dataset(output).to_table(columns=["id"])["id"].to_pylist()
    lines = [p.read_text().splitlines() for p in sorted((output / "_quarantine").iterdir())]
    bad = [json.loads(line)["row"]["id"] for part in lines for line in part]
    assert good == sorted(good, key=int)
    assert sorted([*good, *bad], key=int) == [str(i) for i in range(100_000)]
