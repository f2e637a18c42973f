"""`salver predict` and `salver parity` as their users run them, on a file with bad rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PATIENCE_S

SERVICE = Path(__file__).parent / "services" / "reviews.py"
ROWS = """text,stars
aeiou,5
bcdfg,1
abab,4
no stars given,many
!raise,2
"a, quoted",3
"""


def salver(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "salver.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Four good rows, one that the schema refuses and one that the model cannot take."""
    path = tmp_path / "reviews.csv"
    path.write_text(ROWS)
    return path


def test_predict_writes_every_row_once(rows: Path, tmp_path: Path) -> None:
    """Good rows are in the output in input order, bad ones in quarantine; a second run refuses."""
    out = tmp_path / "out"
    ended = salver("predict", f"{SERVICE}:steady", str(rows), str(out), "--format", "jsonl")
    assert 0 == ended.returncode, ended.stderr
    assert re.search(r"6 rows: 4 in .*, 2 in quarantine", ended.stderr)
    written = [json.loads(line) for part in sorted(out.glob("part-*")) for line in part.open()]
    assert ["aeiou", "bcdfg", "abab", "a, quoted"] == [row["text"] for row in written]
    assert ["yes", "no", "unsure"] == [row["prediction"] for row in written[:3]]

    again = salver("predict", f"{SERVICE}:steady", str(rows), str(out))
    assert 1 == again.returncode
    assert "--overwrite" in again.stderr
    assert "Traceback" not in again.stderr


def test_parity_holds_for_a_model_that_is_steady(rows: Path) -> None:
    """Every path gives the same outcomes, rejected rows included: exit code 0."""
    ended = salver("parity", f"{SERVICE}:steady", "--on", str(rows))
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "6 rows through bare class, HTTP, offline job; 2 rejected alike" in ended.stdout
    assert "Equal" in ended.stdout


def test_parity_finds_a_model_that_is_not(rows: Path) -> None:
    """A model that answers otherwise every time is shown row by row: exit code 1."""
    ended = salver("parity", f"{SERVICE}:coin", "--on", str(rows))
    assert 1 == ended.returncode
    assert "row 0, bare class and HTTP: " in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_resumed_job_keeps_the_batches_it_was_begun_with(rows: Path, tmp_path: Path) -> None:
    """The size comes from the folder and is not measured again; another one asked for is refused."""
    out = tmp_path / "out"
    job = ("predict", f"{SERVICE}:coin", str(rows), str(out))
    ended = salver(*job, "--max-bad-rows", "0")
    assert 1 == ended.returncode
    assert re.search(r"^Coin: .* \(chosen for throughput: .* took [\d.]+ ms", ended.stderr, re.M)
    assert "--optimize-for" not in ended.stderr
    journal = out / "_journal.jsonl"
    begun = json.loads(journal.read_text().splitlines()[0])
    assert begun["start"]["plan"]["max_batch_size"] > 3
    begun["start"]["plan"]["max_batch_size"] = 3
    journal.write_text(json.dumps(begun) + "\n")

    refused = salver(*job, "--resume", "--set", "max_batch_size=5")
    assert 1 == refused.returncode
    assert "plan.max_batch_size (started with 3, now 5)" in refused.stderr

    for _ in range(2):  # the second finds it finished
        ended = salver(*job, "--resume")
        assert 0 == ended.returncode, ended.stderr
        assert "batches of up to 3 rows (replicas chosen" in ended.stderr
        assert 3 == json.loads((out / "_manifest.json").read_text())["plan"]["max_batch_size"]
