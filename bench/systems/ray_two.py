"""Ray Serve written by hand as Salver lays it out: an ingress in front of a model, on both planes."""

from dataclasses import replace

from bench.systems import Launch, Setup, System
from bench.systems.ray_batch import BATCH, haproxy
from bench.systems.ray_lesson import QUIET, REQUIREMENTS, VENV


def launch(setup: Setup) -> Launch:
    """The server script, which starts the cluster and ends it on SIGTERM."""
    env = {
        **QUIET,
        "BENCH_BATCH": str(BATCH.get(setup.model, 8)),
        "BENCH_IN_PLACE": "1" if setup.model == "constant" else "0",
    }
    return Launch(setup.script("ray_two"), env, ready="/-/healthz")


def launch_haproxy(setup: Setup) -> Launch:
    """The same behind HAProxy."""
    plain = launch(setup)
    return replace(plain, env={**plain.env, **haproxy(setup.cores)})


SYSTEM = System(
    name="ray-two",
    title="Ray Serve (ingress and model)",
    distribution="ray",
    requirements=REQUIREMENTS,
    launch=launch,
    venv=VENV,
    cost_s=35.0,
    on_request=True,
    note="Ray Serve with `@serve.batch` behind an ingress deployment, as `salver --engine ray` has",
)
VARIANTS = (
    replace(
        SYSTEM,
        name="ray-two-haproxy",
        title="Ray Serve (ingress and model, HAProxy)",
        launch=launch_haproxy,
        note="the same behind HAProxy with the throughput switches",
    ),
)
