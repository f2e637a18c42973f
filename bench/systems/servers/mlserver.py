"""The model behind MLServer: a custom handler, which takes and gives plain JSON.

Its Open Inference Protocol with the same model cost 1.7 times as much CPU time, and its adaptive
batching on top of that gained nothing: it waits for a batch to fill before anything is run.
"""

import asyncio
import multiprocessing
import os
import signal
import socket
from typing import Any

import uvloop
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse

from bench.predictors import answer, from_environment


class Classifier(MLModel):
    """Loads in the worker; see https://docs.seldon.ai/mlserver/examples/custom."""

    async def load(self) -> bool:
        """Loads the model."""
        self.predictor = from_environment()
        return True

    @custom_handler(rest_path="/predict")
    async def classify(self, project: dict[str, str]) -> dict[str, Any]:
        """One forward pass for one request; in a worker of its own, so nothing else waits."""
        return answer(self.predictor([project["title"]], [project["description"]])[0])

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Refuses: a runtime must have this route, and nobody asks it."""
        raise NotImplementedError(f"POST /predict instead of asking for {payload.id}")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def end() -> None:
    """Ends workers and all at once.

    MLServer's own shutdown waits for ever if its workers got the signal too.
    """
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(0)


async def main() -> None:
    """Serves until it is ended."""
    grpc, metrics = free_ports(2)
    settings = Settings(
        debug=False,  # or it writes a line for each request
        host="127.0.0.1",
        http_port=int(os.environ["BENCH_PORT"]),
        grpc_port=grpc,
        metrics_port=metrics,
        metrics_dir=os.getcwd(),
        environments_dir=os.getcwd(),
        # https://docs.seldon.ai/mlserver/user-guide/parallel-inference; 0 is none but the server.
        parallel_workers=int(os.environ["BENCH_PARALLEL"]),
    )
    # By name: the workers import it, and they do not know this script as `__main__`.
    name = "bench.systems.servers.mlserver.Classifier"
    server = MLServer(settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await server.start([ModelSettings(name="classifier", implementation=name)])


if __name__ == "__main__":
    uvloop.run(main())
