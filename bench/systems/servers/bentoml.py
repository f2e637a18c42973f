"""The model behind BentoML.

Without its adaptive batching: that took more CPU time for each request than no batching at all,
with the constant model (its dispatcher looks at its queue every millisecond) and with a
transformer (it waits for larger batches, whose texts pad each other).
"""

import os
from typing import Any

import bentoml

from bench.predictors import answer, from_environment

SETTINGS: dict[str, Any] = {
    # https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html; one thread
    # in each, the default: the workers together have a thread for each core.
    "workers": int(os.environ["BENCH_WORKERS"]),
    # It writes a line for each request otherwise.
    "logging": {"access": {"enabled": False}},
    "traffic": {"timeout": 120},
}


@bentoml.service(**SETTINGS)
class Direct:
    """For a model that takes no time: on the event loop, which saves the way to a thread."""

    def __init__(self) -> None:
        self.predictor = from_environment()

    @bentoml.api(route="/predict")
    async def predict(self, title: str, description: str) -> dict[str, Any]:
        """One forward pass for one request."""
        return answer(self.predictor([title], [description])[0])


@bentoml.service(**SETTINGS)
class Threaded:
    """For a real model: a synchronous method, which BentoML runs in its thread pool."""

    def __init__(self) -> None:
        self.predictor = from_environment()

    @bentoml.api(route="/predict")
    def predict(self, title: str, description: str) -> dict[str, Any]:
        """One forward pass for one request."""
        return answer(self.predictor([title], [description])[0])
