"""`salver calibrate` end to end: a classifier made here, its calibration, and what is answered then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from topics_lab import JUNK, PATIENCE_S, PROMISES, SERVICE, SERVICES, Lab, asked

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One classifier for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("SALVER_", "MLFLOW_"))]:
            patch.delenv(name)
        yield Lab(tmp_path_factory.mktemp("topics"))


@pytest.fixture(scope="module")
def calibrated(lab: Lab) -> Lab:
    """After a run of the command."""
    junk = lab.written("junk.jsonl", [JUNK, {"text": "zzq 88 yyr"}])
    given = ["--on", str(lab.held_out), "--train", str(lab.train), "--set", PROMISES]
    given += ["--against", str(junk)]
    ended = lab.salver("calibrate", SERVICE, *given)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    for said in ("rows of junk", "600", "topic", "log loss", "Precision", "Novelty"):
        assert said in ended.stdout, ended.stdout
    return lab


def test_a_promise_without_a_calibration_is_refused_at_start(lab: Lab, tmp_path: Path) -> None:
    """With what to do."""
    other = {**lab.environment, "SALVER_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "salver.cli", "serve", SERVICE, "--port", "0", "--set", PROMISES],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=other,
    )
    assert 1 == ended.returncode
    assert "salver calibrate" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_policies_and_details_answer_over_http(calibrated: Lab) -> None:
    """The plain answer is the default; details are there for those who ask."""
    row = {"text": "the knight and the rook mate the old queen"}
    with calibrated.served("--set", PROMISES) as (url, log):
        assert "calibrated on 600 held-out rows" in log
        plain, detailed = asked(url, row), asked(url, row, "?details=confidence,novelty,version")
        assert {"prediction", "probabilities"} == set(plain[0])
        assert "chess" == plain[0]["prediction"]
        assert {**plain[0]} == {name: detailed[0][name] for name in plain[0]}
        assert 0 < detailed[0]["confidence"] <= 1
        assert 0 <= detailed[0]["novelty"] < 2
        assert 64 == len(detailed[0]["version"])
        (junk,) = asked(url, JUNK, "?details=all")
        assert "unknown" == junk["prediction"]
        assert junk["abstained"].startswith("Novelty: ")
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(url, row, "?details=novelt")
        assert 422 == refused.value.code
        assert "novelty" in refused.value.read().decode()


def test_an_offline_job_writes_details_that_are_asked_for(calibrated: Lab, tmp_path: Path) -> None:
    """As columns; precision on rows that nothing was fitted on is as promised."""
    out = tmp_path / "out"
    options = ["--set", PROMISES, "--details", "confidence,abstained", "--format", "parquet"]
    ended = calibrated.salver("predict", SERVICE, str(calibrated.new), str(out), *options)
    assert 0 == ended.returncode, ended.stderr
    table = pq.read_table(out).to_pylist()
    assert 301 == len(table)
    answered = [row for row in table if row["abstained"] is None]
    assert 150 < len(answered) < 301
    assert sum(row["prediction"] == row["topic"] for row in answered) >= 0.9 * len(answered)
    assert table[-1]["abstained"].startswith("Novelty")


def test_all_paths_give_the_same_answers(calibrated: Lab) -> None:
    """The bare class with the rules, HTTP and a job; details included."""
    options = ["--set", PROMISES, "--set", "details=[confidence, novelty, abstained, version]"]
    ended = calibrated.salver("parity", SERVICE, "--on", str(calibrated.new), *options)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "301" in ended.stdout + ended.stderr


def test_ray_gives_the_same_answers(calibrated: Lab) -> None:
    """Ray Serve and Ray Data, with the policies and the details."""
    pytest.importorskip("ray")
    options = ["--set", PROMISES, "--set", "details=[confidence, novelty, abstained, version]"]
    given = ["--on", str(calibrated.new), "--engine", "ray", *options]
    ended = calibrated.salver("parity", SERVICE, *given)
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "Ray" in ended.stdout + ended.stderr


def test_a_report_lies_beside_the_checkpoint(calibrated: Lab) -> None:
    """By the digest of the checkpoint."""
    folder = calibrated.root / "cache" / "attachments" / calibrated.digest / "calibrated"
    (page,) = folder.glob("*.html")
    text = page.read_text()
    assert "<svg" in text
    assert "Brier" in text


def test_a_promise_that_cannot_be_kept_is_refused_at_start(calibrated: Lab) -> None:
    """With what the held-out rows say."""
    ended = calibrated.salver(
        "serve", SERVICE, "--port", "0", "--set", "policy={Precision: {precision: 0.9999}}"
    )
    assert 1 == ended.returncode
    assert "0.9999" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--label", "theme"], "There is no column 'theme'"),
        (["--label", "text"], "is a class of Topics"),
    ],
)
def test_mistakes_are_named(lab: Lab, arguments: list[str], said: str) -> None:
    """With what would be right."""
    ended = lab.salver("calibrate", SERVICE, "--on", str(lab.held_out), *arguments)
    assert 1 == ended.returncode
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_too_few_rows_are_refused(lab: Lab, tmp_path: Path) -> None:
    """With how many it takes."""
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(lab.held_out.read_text().splitlines()[:30]))
    ended = lab.salver("calibrate", SERVICE, "--on", str(few))
    assert 1 == ended.returncode
    assert "at least 50" in ended.stderr


def test_columns_with_a_default_may_be_absent_if_that_is_said(lab: Lab) -> None:
    """From each of the files; rows that do not fit are counted, on the way and in the report."""
    held_out, train = (path.read_text().splitlines() for path in (lab.held_out, lab.train))
    bad = '{"text": 5, "topic": "chess"}'
    on = lab.root / "some.jsonl"
    on.write_text("\n".join([*held_out[:60], bad, bad]))
    trained = lab.root / "trained.jsonl"
    trained.write_text("\n".join([*train[:100], bad]))
    junk = lab.written("more_junk.jsonl", [JUNK])
    given = ["calibrate", f"{SERVICES / 'topics.py'}:noted", "--on", str(on)]
    given += ["--train", str(trained), "--against", str(junk)]
    refused = lab.salver(*given)
    assert 1 == refused.returncode
    assert "--fill-defaults" in refused.stderr
    ended = lab.salver(*given, "--fill-defaults")
    assert 0 == ended.returncode, ended.stderr
    assert f"2 of 62 rows of {on} do not fit the input of NotedTopics" in ended.stderr
    assert "the first, file some.jsonl, row 60, line 61: text: Input should be" in ended.stderr
    assert f"1 of 101 rows of {trained} do not fit" in ended.stderr
    said = " ".join(ended.stdout.split())
    assert "held-out rows; 2 more do not fit its input." in said
    assert "100 rows of training were asked, too, for the novelty score; 1 more do not" in said
    assert "rows of more_junk" in said


def test_a_model_of_scores_for_each_class_is_calibrated_without_confidence(lab: Lab) -> None:
    """The report says why; its novelty and its policies are judged as ever."""
    tags = f"{SERVICES / 'topics.py'}:tags"
    ended = lab.salver(
        "calibrate", tags, "--on", str(lab.held_out), "--set", "policy={Novelty: {}}"
    )
    assert 0 == ended.returncode, ended.stderr
    said = " ".join(ended.stdout.split())
    assert "On 600 of 600 rows the model's probabilities do not sum to 1" in said
    assert "it has no confidence, novelty is from the words of the texts" in said
    assert "Novelty(0.01)" in said


def test_rows_that_are_no_held_out_ones_are_left_out(lab: Lab, tmp_path: Path) -> None:
    """Those of --train, those that are there twice, and those without a label; it says how many."""
    held_out, train = (path.read_text().splitlines() for path in (lab.held_out, lab.train))
    unlabelled = [
        json.dumps({"text": f"the wind and the tide {i}", "topic": None}) for i in range(3)
    ]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("\n".join([*held_out[:200], *held_out[:5], *train[:20], *unlabelled]))
    given = ["--on", str(mixed), "--train", str(lab.train), "--label", "topic"]
    ended = lab.salver("calibrate", SERVICE, *given)
    assert 0 == ended.returncode, ended.stderr
    assert "25 rows of --on are there twice, or in --train" in ended.stderr
    assert "3 rows have no topic" in ended.stderr
    assert "answered 200 held-out rows" in " ".join(ended.stdout.split())
