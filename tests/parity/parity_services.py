"""Services whose answers are compared on every path."""

import asyncio
import itertools

import numpy as np
from pydantic import BaseModel, Field

from salver import Service, Threshold, deployment
from salver.testing import StubModel


class Ticket(BaseModel):
    text: str
    priority: int = Field(default=0, ge=0)
    weight: float | None = None


@deployment(input=Ticket, policy=Threshold(0.6, otherwise="unsure"))
class Tagger(StubModel):
    """Refuses some rows by raising, and gives NaN for others."""

    def __call__(self, batch):
        probabilities = super().__call__(batch)["probabilities"].astype(np.float32)
        probabilities[[p == 13 for p in batch["priority"]]] = np.nan
        return {"probabilities": probabilities, "heavy": np.nan_to_num(batch["weight"]) > 1}


@deployment(input=Ticket)
class Drifting(StubModel):
    """Answers differently every time it is asked."""

    def __init__(self):
        super().__init__()
        self._calls = itertools.count(1)

    def __call__(self, batch):
        share = 1 / (1 + next(self._calls))
        return {"probabilities": np.full((len(batch["text"]), 2), [share, 1 - share])}


@deployment(input=Ticket)
async def triage(rows, tagger):
    first, again = await asyncio.gather(tagger(rows), tagger(rows))
    return [
        {"tag": a["prediction"], "same": a["prediction"] == b["prediction"]}
        for a, b in zip(first, again, strict=True)
    ]


tagger = Tagger.bind()
plain = Service(tagger)
drifting = Service(Drifting.bind())
composed = Service(triage.bind(tagger))
