"""A trace replayed against the autoscaling of a deployment, through the command line."""

from __future__ import annotations

from pathlib import Path

from on_ray.ray_service import salver

SCALING = (
    "autoscaling_config={min_replicas: 1, max_replicas: 4, target_ongoing_requests: 2, "
    "upscale_delay_s: 1, downscale_delay_s: 3, look_back_period_s: 2}"
)


def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("second,requests_per_s\n0,2\n5,60\n30,0\n50,0\n")
    return path


def test_replicas_follow_the_trace(tmp_path):
    """A table of what happens in each second, and a picture of it."""
    picture = tmp_path / "scaling.png"
    ended = salver(
        "simulate", "served:slow", "--trace", str(trace(tmp_path)), "-o", str(picture),
        "--set", "num_replicas=null", "--set", SCALING, "--set", "max_batch_size=2",
        "--set", "user_config={delay_s: 0.1}", "--start-s", "2",
    )  # fmt: skip
    assert 0 == ended.returncode, ended.stderr
    header, *lines = ended.stdout.splitlines()
    assert "second,requests,replicas,target,queued,p99_ms" == header
    replicas = [int(line.split(",")[2]) for line in lines]
    assert 51 == len(replicas)
    assert (1, 4, 1) == (replicas[4], max(replicas), replicas[-1])
    assert b"\x89PNG" == picture.read_bytes()[:4]


def test_a_deployment_that_does_not_scale_says_how_it_could(tmp_path):
    """With the option to give."""
    ended = salver("simulate", "served:slow", "--trace", str(trace(tmp_path)))
    assert 1 == ended.returncode
    assert "--set 'autoscaling_config=" in ended.stderr
