"""The model behind Ray Serve, tuned: dynamic batches, one deployment that is ingress and model."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.predictors import answer, from_environment
from bench.systems.servers.ray_planes import keep_to_itself

Project = dict[str, str]
BATCH = int(os.environ["BENCH_BATCH"])
IN_PLACE = os.environ["BENCH_IN_PLACE"] == "1"


class Classifier:
    """One deployment: a second one behind the first would cost a hop between processes."""

    def __init__(self) -> None:
        self.predictor = from_environment()

    # The default of 10 ms of waiting only added latency on a CPU: 0 takes what is there
    # (https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html).
    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.0)
    async def predict(self, projects: list[Project]) -> list[bytes]:
        """One forward pass for a batch."""
        if IN_PLACE:
            return self.forward(projects)
        # A forward pass on the event loop would keep the next batch from forming
        # (https://docs.ray.io/en/latest/serve/advanced-guides/asyncio-best-practices.html).
        return await asyncio.to_thread(self.forward, projects)

    def forward(self, projects: list[Project]) -> list[bytes]:
        """Predicts and encodes."""
        rows = self.predictor([p["title"] for p in projects], [p["description"] for p in projects])
        return [json.dumps(answer(row)).encode() for row in rows]

    async def __call__(self, request: Request) -> Response:
        """One request; without FastAPI's routing and validation, which costs more."""
        project: Any = json.loads(await request.body())
        return Response(await self.predict(project), media_type="application/json")


def main() -> None:
    """Starts a cluster of one machine and serves until it is ended."""
    keep_to_itself(Path.cwd())
    workers = int(os.environ["BENCH_WORKERS"])
    # Sockets and logs go to the working folder: it is the harness's, and removed with the server.
    ray.init(num_cpus=workers, include_dashboard=False, _temp_dir=os.getcwd())
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])},
        # One line a request is not free; the other systems write none either.
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    deployment = serve.deployment(Classifier).options(
        num_replicas=workers,
        ray_actor_options={"num_cpus": 1},
        # The default of 5 would cap a batch at 5 and keep the rest waiting at the proxy
        # (https://docs.ray.io/en/latest/serve/configure-serve-deployment.html).
        max_ongoing_requests=512,
    )
    serve.run(deployment.bind(), route_prefix="/predict")
    # Ray's own handler of SIGTERM exits, and ends the cluster on the way out.
    signal.pause()


if __name__ == "__main__":
    main()
