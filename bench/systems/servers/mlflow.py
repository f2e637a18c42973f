"""The model behind `mlflow models serve`: what the `MLmodel` file beside this one names.

Its server reads the columns of a request (`inputs`) into arrays and hands them to `predict` in a
thread; it has no batching.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.predictors import answer, from_environment


class Classifier:
    """What MLflow wraps: an object with `predict`."""

    def __init__(self) -> None:
        self.predictor = from_environment()

    def predict(self, data: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """One forward pass for one request."""
        titles, descriptions = (list(map(str, data[name])) for name in ("title", "description"))
        return [answer(row) for row in self.predictor(titles, descriptions)]


def _load_pyfunc(_folder: str) -> Classifier:
    return Classifier()
