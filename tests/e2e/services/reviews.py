"""Models over two fields, with answers that follow from the row, and with answers that do not."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from pydantic import BaseModel

from salver import Service, Threshold, deployment
from salver.testing import StubModel


class Review(BaseModel):
    text: str
    stars: int = 3


@deployment(input=Review, policy=Threshold(0.6, otherwise="unsure"), max_batch_size=4)
class Steady(StubModel):
    """The same answer every time."""


@deployment(input=Review)
class Coin:
    """Another answer every time."""

    classes_ = ("heads", "tails")

    def __call__(self, batch: dict[str, Any]) -> Any:
        heads = [random.random() for _ in batch["text"]]
        return {"probabilities": np.array([[p, 1 - p] for p in heads])}


steady = Service(Steady.bind())
coin = Service(Coin.bind())
