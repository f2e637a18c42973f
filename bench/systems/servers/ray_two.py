"""The model behind Ray Serve, written by hand: an ingress, and a model with dynamic batches."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from bench.predictors import answer, from_environment
from bench.systems.servers.ray_planes import keep_to_itself

Project = dict[str, str]
BATCH = int(os.environ["BENCH_BATCH"])
IN_PLACE = os.environ["BENCH_IN_PLACE"] == "1"


class Model:
    """Batches as in ``ray_batch.py``."""

    def __init__(self) -> None:
        self.predictor = from_environment()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.0)
    async def predict(self, projects: list[Project]) -> list[dict[str, Any]]:
        """One forward pass for a batch."""
        return (
            self.forward(projects) if IN_PLACE else await asyncio.to_thread(self.forward, projects)
        )

    def forward(self, projects: list[Project]) -> list[dict[str, Any]]:
        """Predicts."""
        rows = self.predictor([p["title"] for p in projects], [p["description"] for p in projects])
        return [answer(row) for row in rows]

    async def __call__(self, project: Project) -> dict[str, Any]:
        """One request."""
        return await self.predict(project)


class Ingress:
    """Reads the request and asks the model; without FastAPI, which costs more."""

    def __init__(self, model: DeploymentHandle) -> None:
        self.model = model

    async def __call__(self, request: Request) -> Response:
        """One request."""
        project = json.loads(await request.body())
        found = await self.model.remote(project)
        return Response(json.dumps(found), media_type="application/json")


def main() -> None:
    """Starts a cluster of one machine and serves until it is ended."""
    keep_to_itself(Path.cwd())
    workers = int(os.environ["BENCH_WORKERS"])
    ray.init(num_cpus=workers, include_dashboard=False, _temp_dir=os.getcwd())
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    # The same numbers as Salver's own: two faces without a core, a model on each core.
    model = serve.deployment(Model).options(
        num_replicas=workers, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=512
    )
    face = serve.deployment(Ingress).options(
        num_replicas=2, ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000
    )
    serve.run(face.bind(model.bind()), route_prefix="/predict")
    signal.pause()


if __name__ == "__main__":
    main()
