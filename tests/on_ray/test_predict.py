"""An offline job on Ray Data writes what the embedded job writes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from on_ray import served as services
from on_ray.ray_service import HERE, environment, salver
from salver.cluster.data import resources_of
from salver.cluster.replica import Assignment
from salver.errors import ConfigError

ROWS = 13_000  # four chunks


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in services.rows(ROWS)))
    return path


@pytest.fixture(scope="module")
def embedded(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embedded") / "out"
    ended = salver("predict", "served:plain", str(rows), str(out))
    assert 0 == ended.returncode, ended.stderr
    return out


def content(folder: Path) -> dict[str, bytes]:
    """All files of a finished job."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_output_is_the_same_to_the_byte(rows, embedded, tmp_path):
    """Parts, quarantine and manifest."""
    out = tmp_path / "out"
    ended = salver("predict", "served:plain", str(rows), str(out), "--engine", "ray")
    assert 0 == ended.returncode, ended.stderr
    assert f"{ROWS} rows: " in ended.stderr
    assert content(embedded) == content(out)


def test_a_function_of_two_models_gives_the_same_rows(rows, tmp_path):
    """Its actors bring the models that it asks."""
    found = []
    for engine in ("local", "ray"):
        out = tmp_path / engine
        ended = salver(
            "predict", "served:composed", str(rows), str(out), "--engine", engine,
            "--deployment", "triage", "--format", "jsonl",
        )  # fmt: skip
        assert 0 == ended.returncode, ended.stderr
        found.append(b"".join(p.read_bytes() for p in sorted(out.glob("part-*"))))
    assert found[0] == found[1]


def test_a_job_that_was_killed_goes_on_on_the_other_engine(rows, embedded, tmp_path):
    """From what was committed, to the same bytes."""
    out = tmp_path / "out"
    job = started(rows, out)
    while parts(out) < 1 and job.poll() is None:
        time.sleep(0.05)
    children = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.communicate()
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    assert 1 <= parts(out) <= 4
    assert not (out / "_manifest.json").exists()
    resumed = salver(
        "predict", "served:plain", str(rows), str(out), "--resume",
        "--set", "user_config={delay_s: 0.01}",
    )  # fmt: skip
    assert 0 == resumed.returncode, resumed.stderr
    whole, ours = content(embedded), content(out)
    # The manifests tell the two configurations apart.
    assert whole.pop("_manifest.json") != ours.pop("_manifest.json")
    assert whole == ours


def started(rows: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "salver.cli", "predict", "served:plain", str(rows), str(out)]
    command += ["--engine", "ray", "--set", "user_config={delay_s: 0.01}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(), cwd=HERE)


def parts(out: Path) -> int:
    journal = out / "_journal.jsonl"
    return len(journal.read_text().splitlines()) if journal.exists() else 0


@pytest.mark.cluster
def test_a_killed_actor_changes_nothing(rows, tmp_path):
    """The job ends as if nothing had happened."""
    calm = salver(
        "predict", "served:plain", str(rows), str(tmp_path / "calm"),
        "--set", "user_config={delay_s: 0.01}",
    )  # fmt: skip
    assert 0 == calm.returncode, calm.stderr
    out = tmp_path / "out"
    job = started(rows, out)
    victim = None
    while victim is None and job.poll() is None:
        for child in psutil.Process(job.pid).children(recursive=True):
            if "Answerer" in " ".join(child.cmdline()):
                victim = child.pid
        time.sleep(0.2)
    time.sleep(3)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    _, said = job.communicate(timeout=240)
    assert 0 == job.returncode, said
    assert content(tmp_path / "calm") == content(out)


def test_another_model_does_not_go_on_with_a_job(embedded, rows, tmp_path):
    """What was begun with one policy is not resumed with another."""
    ended = salver(
        "predict", "served:plain", str(rows), str(embedded), "--engine", "ray", "--resume",
        "--set", "policy={Threshold: {p: 0.7, otherwise: unsure}}",
    )  # fmt: skip
    assert 1 == ended.returncode
    assert "policies" in ended.stderr
    again = salver(
        "predict", "served:plain", str(rows), str(embedded), "--engine", "ray", "--resume"
    )
    assert 0 == again.returncode, again.stderr


def test_one_actor_asks_for_what_all_its_models_need():
    """Numbers are added; an environment is passed on, and two that differ are refused."""
    environment = {"runtime_env": {"env_vars": {"A": "1"}}, "resources": {"fast": 1}}
    assignment = Assignment(
        "on_ray.served:composed",
        overrides={name: {"ray_actor_options": environment} for name in ("Tagger", "Urgency")},
    )
    asked = resources_of(services.composed.deployments["triage"], assignment)
    assert pytest.approx(0.4) == asked["num_cpus"]
    assert {"fast": 2} == asked["resources"]
    assert environment["runtime_env"] == asked["runtime_env"]
    other = {"ray_actor_options": {"runtime_env": {}}}
    differing = replace(assignment, overrides={**assignment.overrides, "Urgency": other})
    with pytest.raises(ConfigError, match="runtime_env of its models"):
        resources_of(services.composed.deployments["triage"], differing)
