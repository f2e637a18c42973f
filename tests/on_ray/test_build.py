"""The files that put a service on a cluster, through the command line and Ray's own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from on_ray.ray_service import environment, salver, served


def test_a_serve_config_is_written(tmp_path):
    """To a file, or to standard output."""
    path = tmp_path / "serve.yaml"
    assert 0 == salver("build", "served:composed", "-o", str(path)).returncode
    shown = salver("build", "served:composed")
    assert path.read_text() == shown.stdout
    (application,) = yaml.safe_load(shown.stdout)["applications"]
    assert "salver.cluster.serve:build" == application["import_path"]


def test_kubernetes_needs_an_image_and_gives_a_service_or_a_job(tmp_path):
    """Each of the two kinds of KubeRay."""
    missing = salver("build", "served:plain", "--kubernetes")
    assert 2 == missing.returncode
    assert "--image" in missing.stderr
    service = salver("build", "served:plain", "--kubernetes", "--image", "tagger:1")
    assert "RayService" == yaml.safe_load(service.stdout)["kind"]
    job = salver(
        "build", "served:plain", "--kubernetes", "--image", "t:1", "--predict", "in.csv", "out"
    )
    assert "RayJob" == yaml.safe_load(job.stdout)["kind"]


def test_strangers_are_not_let_in_by_accident():
    """As `salver serve` refuses it."""
    refused = salver("build", "served:plain", "--host", "0.0.0.0")
    assert 1 == refused.returncode
    assert "SALVER_API_KEY" in refused.stderr


@pytest.mark.slow
def test_serve_deploy_takes_the_config(tmp_path):
    """On a running cluster, in place of what runs there."""
    path = tmp_path / "serve.yaml"
    with served("served:plain") as running:
        built = salver("build", "served:composed", "-o", str(path), "--port", str(running.port))
        assert 0 == built.returncode, built.stderr
        deployed = subprocess.run(
            [str(Path(sys.executable).with_name("serve")), "deploy", str(path)],
            capture_output=True, text=True, timeout=120, env=environment(), check=False,
        )  # fmt: skip
        assert 0 == deployed.returncode, deployed.stderr
        end = time.monotonic() + 90
        while time.monotonic() < end:
            status, body, _ = running.ask("/triage/predict/", [{"text": "a", "priority": 9}])
            if status == 200:
                break
            time.sleep(0.5)
        assert (200, "now") == (status, body["results"][0]["tag"])
