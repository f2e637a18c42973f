"""mosec: a Rust front, Python workers."""

from bench.systems import RUNTIME, Launch, Setup, System

# Most rows of a batch, by measurement. A batch is padded to its longest text, and mosec does not
# group by length: 1,000 requests of minilm took 15, 16, 18 and over 25 CPU seconds in batches of at most
# 1, 4, 8 and 32. Where a call costs more than its rows, batches pay.
BATCH = {"constant": "32", "minilm": "1", "bert-base": "1", "sklearn": "32"}


def launch(setup: Setup) -> Launch:
    """The server script; its other settings are commented there."""
    env = {
        "BENCH_BATCH": BATCH[setup.model],
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_PORT": str(setup.port),
        # ms; its default of 3 s ends requests that wait in the queue of a slow model.
        "MOSEC_TIMEOUT": "60000",
    }
    return Launch(setup.script("mosec"), env)


SYSTEM = System(
    name="mosec",
    title="mosec",
    distribution="mosec",
    requirements=("mosec==0.9.8", *RUNTIME),
    launch=launch,
    note="a worker on each core, batches (of 1 for transformers) with the shortest wait, 1 ms",
)
