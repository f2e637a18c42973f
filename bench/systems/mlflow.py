"""MLflow's own server."""

import json
from pathlib import Path

from bench.systems import RUNTIME, Answer, Launch, Row, Setup, System

MODEL = Path(__file__).parent / "servers" / "mlflow_model"


def launch(setup: Setup) -> Launch:
    """`mlflow models serve`, in the environment that is there."""
    argv = [str(setup.python.with_name("mlflow")), "models", "serve", "--model-uri", str(MODEL)]
    argv += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(setup.port)]
    argv += ["--workers", str(setup.workers)]
    # uvicorn underneath reads these: the switches that the other servers on uvicorn have too.
    env = {"UVICORN_LOOP": "uvloop", "UVICORN_HTTP": "httptools", "UVICORN_LOG_LEVEL": "warning"}
    return Launch(tuple(argv), env, path="/invocations", ready="/ping")


def encode(row: Row) -> bytes:
    """Columns of one row each: `dataframe_split` and `dataframe_records` make a frame first."""
    return json.dumps({"inputs": {name: [value] for name, value in row.items()}}).encode()


def decode(body: bytes) -> Answer:
    """The only one of its predictions."""
    answer: Answer = json.loads(body)["predictions"][0]
    return answer


SYSTEM = System(
    name="mlflow",
    title="mlflow models serve",
    distribution="mlflow",
    requirements=("mlflow==3.17.2", "uvloop==0.23.0", "httptools==0.9.0", *RUNTIME),
    launch=launch,
    encode=encode,
    decode=decode,
    cost_s=20.0,
    note="`mlflow models serve` on uvicorn with the model as a custom flavor; it has no batching",
)
