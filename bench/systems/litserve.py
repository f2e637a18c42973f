"""LitServe, batching in worker processes."""

from bench.systems import RUNTIME, Launch, Setup, System

# Most rows of a batch, by measurement. A batch is padded to its longest text, and LitServe does not
# group by length: 1,000 requests of minilm took 18, 20, 22 and over 28 CPU seconds in batches of at most
# 1, 4, 8 and 32. Where a call costs more than its rows, batches pay.
BATCH = {"constant": "32", "minilm": "1", "bert-base": "1", "sklearn": "32"}


def launch(setup: Setup) -> Launch:
    """The server script; its other settings are commented there."""
    return Launch(setup.script("litserve"), {"BENCH_BATCH": BATCH[setup.model]}, ready="/health")


SYSTEM = System(
    name="litserve",
    title="LitServe",
    distribution="litserve",
    requirements=("litserve==0.2.19", "uvloop==0.23.0", "httptools==0.9.0", *RUNTIME),
    launch=launch,
    cost_s=6.0,
    note="a worker and an API server on each core, ZeroMQ queue, batches (of 1 for transformers) without a wait",
)
