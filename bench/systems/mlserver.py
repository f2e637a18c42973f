"""Seldon's MLServer."""

from bench.systems import RUNTIME, Launch, Setup, System


def launch(setup: Setup) -> Launch:
    """The server script; its settings are commented there."""
    # A worker process costs 1.5 ms of CPU time for each request: worth it only for a real model.
    parallel = 0 if setup.model == "constant" else setup.workers
    env = {"BENCH_PARALLEL": str(parallel)}
    return Launch(setup.script("mlserver"), env, ready="/v2/health/ready")


SYSTEM = System(
    name="mlserver",
    title="MLServer",
    distribution="mlserver",
    # It calls `asyncio.get_event_loop` outside of a loop, which newer uvloops refuse.
    requirements=("mlserver==1.7.1", "uvloop==0.21.0", "httptools==0.9.0", *RUNTIME),
    launch=launch,
    cost_s=12.0,
    note="MLServer with a custom handler and worker processes, no batching",
)
