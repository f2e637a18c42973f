"""Ray Serve as the Made With ML course serves its model: one FastAPI deployment, one replica.

The structure is that of the course (https://madewithml.com/courses/mlops/serving/): the route is
`async def`, reads the body itself and calls the model in place, one request a forward pass. It
differs in what would not be fair: the model is the one that every system here serves (not
PyTorch), its answer is not wrapped, and no threshold is applied.
"""

import os
import signal
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from starlette.requests import Request

from bench.predictors import answer, from_environment

app = FastAPI()


@serve.ingress(app)
class ModelDeployment:
    """Loads the model in the replica."""

    def __init__(self) -> None:
        self.predictor = from_environment()

    @app.post("/predict/")
    async def predict(self, request: Request) -> dict[str, Any]:
        """One forward pass for one request, on the replica's event loop."""
        data = await request.json()
        return answer(self.predictor([data["title"]], [data["description"]])[0])


def main() -> None:
    """Starts a cluster of one machine and serves until it is ended."""
    cores = int(os.environ["BENCH_CORES"])
    # Sockets and logs go to the working folder: it is the harness's, and removed with the server.
    ray.init(num_cpus=cores, include_dashboard=False, _temp_dir=os.getcwd())
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    # One replica with all cores, and Serve's own defaults for the rest, as in the course (which
    # writes 8 CPUs). One of these defaults is max_ongoing_requests=5.
    deployment = serve.deployment(ModelDeployment).options(
        num_replicas=1, ray_actor_options={"num_cpus": cores}
    )
    serve.run(deployment.bind())
    # Ray's own handler of SIGTERM exits, and ends the cluster on the way out.
    signal.pause()


if __name__ == "__main__":
    main()
