"""Ray Serve, tuned: batches, and the HAProxy data plane with its throughput switches."""

from bench.systems import Launch, Setup, System
from bench.systems.ray_lesson import QUIET, REQUIREMENTS, VENV

BATCH = {"constant": 64}
"""Rows of a batch; 8 for a real model: on a CPU larger ones of unsorted texts pad too much."""


def haproxy(cores: int) -> dict[str, str]:
    """Variables that make Serve use HAProxy, and its throughput switches."""
    return {
        # "11.1x higher throughput": both switches of
        # https://docs.ray.io/en/master/kuberay/user-guides/serve-high-throughput.html.
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # More threads than cores only switch.
        "RAY_SERVE_HAPROXY_NBTHREAD": str(cores),
    }


def launch(setup: Setup) -> Launch:
    """The server script, which starts the cluster and ends it on SIGTERM."""
    env = {
        **QUIET,
        **haproxy(setup.cores),
        "BENCH_BATCH": str(BATCH.get(setup.model, 8)),
        "BENCH_IN_PLACE": "1" if setup.model == "constant" else "0",
    }
    return Launch(setup.script("ray_batch"), env, ready="/-/healthz")


SYSTEM = System(
    name="ray-batch",
    title="Ray Serve (tuned)",
    distribution="ray",
    requirements=REQUIREMENTS,
    launch=launch,
    venv=VENV,
    cost_s=35.0,
    note="Ray Serve with `@serve.batch`, its HAProxy data plane and throughput switches",
)
