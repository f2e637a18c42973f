"""Salver on a Ray of its own: `salver serve --engine ray`, on both planes of Ray Serve."""

from dataclasses import replace

from bench.systems import Launch, Setup, System
from bench.systems.ray_batch import haproxy
from bench.systems.ray_lesson import QUIET
from bench.systems.salver import SERVICES, first_result


def launch(setup: Setup) -> Launch:
    """The command on the service of the model, with a replica on each core."""
    target = f"bench.services:{SERVICES[setup.model]}"
    options = ("--port", str(setup.port), "--set", f"num_replicas={setup.workers}")
    return Launch(
        (*setup.script("salver_ray"), target, *options), QUIET, path="/predict/", ready="/-/readyz"
    )


def launch_haproxy(setup: Setup) -> Launch:
    """The same behind HAProxy."""
    plain = launch(setup)
    return replace(plain, env={**plain.env, **haproxy(setup.cores)})


SYSTEM = System(
    name="salver-ray",
    title="Salver on Ray",
    distribution="salver",
    requirements=(),
    launch=launch,
    decode=first_result,
    cost_s=35.0,
    on_request=True,
    note="`salver serve --engine ray`, its limits and checks on",
)
VARIANTS = (
    replace(
        SYSTEM,
        name="salver-ray-haproxy",
        title="Salver on Ray (HAProxy)",
        launch=launch_haproxy,
        note="the same behind HAProxy with the throughput switches",
    ),
)
