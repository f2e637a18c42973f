"""What docs/trust.md shows is executed, with its own words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salver import Checkpoint
from salver.account.metrics import ALARMS
from salver.bounds import TooFew
from salver.options import DETAILS
from salver.policies import (
    POLICIES,
    ConformalSet,
    Coverage,
    HeldOut,
    Novelty,
    Precision,
    Scored,
)

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
(SERVICE,) = [block for _, block in BLOCKS if block.startswith("# service.py")]

COMMAND = re.search(r"^salver (calibrate service:service .*)$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's service with weights of words, rows, and what the page's command leaves."""
    sys.path.insert(0, str(ROOT / "tests" / "e2e" / "services"))
    import topics

    root = tmp_path_factory.mktemp("docs")
    (root / "service.py").write_text(SERVICE)
    (root / "topics").mkdir()
    topics.make(root / "topics")
    Checkpoint.create(root / "topics")
    for name, seed in (("heldout", 1), ("train", 2)):
        lines = map(json.dumps, topics.rows(600, seed=seed))
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    refused = salver(root, "predict", "service:service", "heldout.jsonl", "out")
    assert 1 == refused.returncode
    assert "salver calibrate" in refused.stderr
    assert COMMAND
    ended = salver(root, *COMMAND[1].split())
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    return root


def salver(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "salver.cli", *arguments],
        cwd=folder,
        env={**os.environ, "SALVER_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """The URL of the page's service."""
    process = subprocess.Popen(
        [sys.executable, "-m", "salver.cli", "serve", "service:service", "--port", "0", *options],
        cwd=folder,
        env={**os.environ, "SALVER_CACHE_DIR": str(folder / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        while "Ready." not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield re.findall(r"http://[\d.:]+", said)[0]
    finally:
        process.terminate()
        process.communicate()


def test_the_live_account_of_the_page(folder: Path) -> None:
    """Its commands and its client leave a report, and every metric and alarm that it names exists."""
    serve, feedback, report = re.findall(
        r"^salver (?:serve|feedback|report) .*answers\.db$", TEXT, re.MULTILINE
    )
    (client,) = (block for _, block in BLOCKS if "client.feedback" in block)
    with served(folder, *serve.split()[3:]) as url:
        script = client.replace("http://127.0.0.1:8000", url)
        subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=60)
        (folder / "labels.csv").write_text("request_id,label\ngame-17,sailing\n")
        told = salver(folder, *feedback.split()[1:])
        assert 0 == told.returncode, told.stderr
        assert "1 label kept, 1 of them" in told.stderr
        with urllib.request.urlopen(f"{url}/metrics") as response:
            metrics = response.read().decode()
    ended = salver(folder, *report.split()[1:])
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "0 of 1" in ended.stdout  # the rook and the pawn are no boat
    table = TEXT.partition("| metric | |")[2].partition("\n\n")[0]
    for name in re.findall(r"`(salver_\w+)", table):
        assert f"# TYPE {name} " in metrics
    assert set(re.findall(r"`([a-z_]+)`", table.splitlines()[2])) == set(ALARMS)


def test_the_service_of_the_page_answers_as_it_says(folder: Path) -> None:
    """The request of the page, with each detail."""
    asked = re.search(r"^curl -s '[^']*(/predict/[^']*)' .*?-d '(.*?)'$", TEXT, re.M | re.S)
    assert asked
    with served(folder) as url:
        kind = {"content-type": "application/json"}
        request = urllib.request.Request(url + asked[1], asked[2].encode(), kind)
        with urllib.request.urlopen(request) as response:
            (answer,) = json.load(response)["results"]
    assert "unknown" == answer["prediction"]
    assert re.fullmatch(r"Novelty: \d+\.\d\d is above \d+\.\d\d", answer["abstained"])
    assert {"confidence", "novelty"} <= set(answer)


def test_a_refusal_reads_as_the_page_says(folder: Path) -> None:
    """With the same numbers."""
    (shown,) = (block for _, block in BLOCKS if block.startswith("Topics: A precision"))
    given = ("--set", "policy={Precision: {precision: 0.999}}")
    ended = salver(folder, "predict", "service:service", "heldout.jsonl", "out", *given)
    assert shown.removesuffix(" ...\n") in ended.stderr


def test_the_tables_name_what_there_is() -> None:
    """All policies, and all details."""
    policies = set(re.findall(r"^\| `(\w+)\(", TEXT, re.MULTILINE))
    assert set(POLICIES) == policies
    first = TEXT.partition("| detail | |")[2].partition("\n\n")[0]
    assert list(DETAILS) == re.findall(r"^\| `(\w+)` \|", first, re.MULTILINE)


@pytest.mark.parametrize(
    ("promise", "rows"),
    [(Precision(0.95), 45), (Coverage(0.9), 22), (ConformalSet(0.95), 19), (Novelty(0.01), 99)],
)
def test_the_rows_that_a_promise_needs_are_those_of_the_page(promise: Any, rows: int) -> None:
    """Of one less, it says that they are too few; of so many that are all right, it is made."""
    assert f"{rows} rows" in TEXT
    promise.kept_on(perfect(rows))
    with pytest.raises(TooFew):
        promise.kept_on(perfect(rows - 1))


def perfect(n: int) -> HeldOut:
    sure = np.linspace(0.8, 0.99, n)
    scored = Scored(
        {}, np.stack([sure, 1 - sure], axis=1), ("a", "b"), np.zeros(n, dtype=bool), sure, sure
    )
    return HeldOut(scored, np.ones(n, dtype=bool), np.zeros(n, dtype=int))


def test_the_policies_of_the_readme_exist() -> None:
    """As they are written there."""
    (block,) = re.findall(r"```python\n(from salver import Novelty.*?)```", README, re.DOTALL)
    given = re.search(r"policy=(\[.*\])\)", block)
    assert given
    found = [Novelty(0.01, otherwise="other"), Precision(0.95, otherwise="other")]
    assert given[1].replace("otherwise='other'", 'otherwise="other"') == (
        str(found).replace("'", '"')
    )
