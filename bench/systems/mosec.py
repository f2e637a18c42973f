"""mosec: a Rust front, Python workers."""

import os

from bench.systems import RUNTIME, Launch, Setup, System


def launch(setup: Setup) -> Launch:
    """The server script; its settings are commented there."""
    return Launch(
        setup.script("mosec"),
        {
            "MOSEC_PORT": str(setup.port),
            "MOSEC_TIMEOUT": "60000",
            "BENCH_BATCH": os.environ.get("TRY_BATCH", "8"),
        },
    )


SYSTEM = System(
    name="mosec",
    title="mosec",
    distribution="mosec",
    requirements=("mosec==0.9.8", *RUNTIME),
    launch=launch,
)
