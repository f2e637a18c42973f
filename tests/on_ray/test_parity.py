"""The same rows give the same outcomes embedded, on Ray Serve and on Ray Data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from on_ray import served as services
from on_ray.ray_service import salver


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("target", "deployment"), [("served:plain", "Tagger"), ("served:composed", "triage")]
)
def test_a_thousand_rows_are_equal_on_every_path(tmp_path: Path, target, deployment):
    """A model with a policy, and a function of two models; rows that each path must refuse too."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in services.rows(1000)))

    ended = salver(
        "parity", target, "--on", str(path), "--deployment", deployment, "--engine", "ray"
    )

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "1000 rows through " in ended.stdout
    assert "HTTP, offline job, Ray Serve, Ray Data" in ended.stdout
    assert "Equal: every path gives the same outcomes." in ended.stdout
    assert "; 0 rejected alike" not in ended.stdout
