"""LitServe, batching in worker processes."""

import os

from bench.systems import RUNTIME, Launch, Setup, System


def launch(setup: Setup) -> Launch:
    """The server script; its settings are commented there."""
    batch = os.environ.get("TRY_BATCH", "8")
    return Launch(setup.script("litserve"), {"BENCH_BATCH": batch}, ready="/health")


SYSTEM = System(
    name="litserve",
    title="LitServe",
    distribution="litserve",
    requirements=("litserve==0.2.19", "uvloop==0.23.0", "httptools==0.9.0", *RUNTIME),
    launch=launch,
)
