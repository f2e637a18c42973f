"""A model by its URI on Ray: no module of the user's, and the same answers."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from on_ray.ray_service import salver


@pytest.mark.cluster
def test_a_bare_file_gives_the_same_answers_on_ray(tmp_path):
    """Ray Serve and Ray Data load it by its digest, from the cache."""
    rows = np.random.default_rng(0).uniform(0, 3, (200, 2))
    data = lightgbm.Dataset(rows, rows[:, 0].astype(int), feature_name=["length", "width"])
    found = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, data, 5)
    found.save_model(tmp_path / "flowers.txt")
    lines = [f"{a},{b}" for a, b in rows.tolist()]
    (tmp_path / "rows.csv").write_text("\n".join(["length,width", *lines, "x,1"]) + "\n")
    ended = salver(
        "parity", f"{tmp_path}/flowers.txt", "--on", f"{tmp_path}/rows.csv", "--engine", "ray"
    )
    assert 0 == ended.returncode, ended.stderr
    assert "Ray Serve, Ray Data; 1 rejected alike" in ended.stdout
