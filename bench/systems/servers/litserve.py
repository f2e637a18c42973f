"""The model behind LitServe."""

import os
from typing import Any

import litserve

from bench.predictors import answer, from_environment

Project = dict[str, str]


class Classifier(litserve.LitAPI):
    """Loads in the worker; `predict` gets the list that `batch` leaves as it is."""

    def setup(self, device: str) -> None:
        """Loads the model."""
        self.predictor = from_environment()

    def predict(self, x: Any) -> list[dict[str, Any]]:
        """One forward pass for a batch (or for one request, where batches are of 1)."""
        projects: list[Project] = x if isinstance(x, list) else [x]
        rows = self.predictor([p["title"] for p in projects], [p["description"] for p in projects])
        answers = [answer(row) for row in rows]
        return answers if isinstance(x, list) else answers[0]


def main() -> None:
    """Serves until it is ended."""
    batch = int(os.environ["BENCH_BATCH"])
    # batch_timeout 0 (the default) takes what is there and never waits: a wait of 5 to 50 ms, as
    # in https://lightning.ai/docs/litserve/features/batching, only added latency on a CPU.
    api = Classifier(max_batch_size=batch, batch_timeout=0.0)
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        # "For CPU, set to the number of cores" (docstring of LitServer).
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
        # "Use when serving hundreds of requests per second": ZeroMQ instead of a manager's queue.
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
