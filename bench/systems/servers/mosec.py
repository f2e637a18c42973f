"""The model behind mosec."""

import os
from typing import Any

from mosec import Server, Worker

from bench.predictors import answer, from_environment

Project = dict[str, str]


class Classifier(Worker):
    """Loads in the worker; `forward` gets a list of requests, or one where batches are of 1."""

    def __init__(self) -> None:
        self.predictor = from_environment()

    def forward(self, data: Any) -> Any:
        """One forward pass for a batch."""
        projects: list[Project] = data if isinstance(data, list) else [data]
        rows = self.predictor([p["title"] for p in projects], [p["description"] for p in projects])
        answers = [answer(row) for row in rows]
        return answers if isinstance(data, list) else answers[0]


def main() -> None:
    """Serves until it is ended."""
    server = Server()
    server.append_worker(
        Classifier,
        num=int(os.environ["BENCH_WORKERS"]),
        max_batch_size=int(os.environ["BENCH_BATCH"]),
        max_wait_time=1,  # ms, the least it takes; 0 means its default of 10
        timeout=60,  # s; its default of 3 ends requests that a slow model has in its queue
        route="/predict",
    )
    server.run()


if __name__ == "__main__":
    main()
