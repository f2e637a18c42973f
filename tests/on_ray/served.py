"""The services that run on Ray here and on the embedded engine, for comparison."""

import asyncio
import time

import numpy as np
from pydantic import BaseModel, Field

from salver import Service, Threshold, deployment
from salver.testing import StubModel


class Ticket(BaseModel):
    text: str
    priority: int = Field(default=0, ge=0)


@deployment(
    input=Ticket,
    policy=Threshold(0.6, otherwise="unsure"),
    num_cpus=0.2,
    examples=[{"text": "golden"}],
    max_batch_size=8,
)
class Tagger(StubModel):
    """Refuses some rows by raising, gives NaN for others, and may be slow."""

    def __init__(self, delay_s=0.0):
        super().__init__()
        self._delay_s = delay_s

    def reconfigure(self, config):
        self._delay_s = config["delay_s"]

    def __call__(self, batch):
        time.sleep(self._delay_s)
        probabilities = super().__call__(batch)["probabilities"].astype(np.float32)
        probabilities[[p == 13 for p in batch["priority"]]] = np.nan
        return {"probabilities": probabilities}


@deployment(input=Ticket, num_cpus=0.2, max_batch_size=8)
class Urgency:
    def __init__(self, limit=5):
        self._limit = limit

    def __call__(self, batch):
        return {"prediction": [p > self._limit for p in batch["priority"]]}


@deployment
async def triage(rows: list[Ticket], tagger, urgency):
    tags, urgent = await asyncio.gather(tagger(rows), urgency(rows))
    return [
        {"tag": "now" if u["prediction"] else t["prediction"], "urgent": u["prediction"]}
        for t, u in zip(tags, urgent, strict=True)
    ]


tagger = Tagger.bind()
urgency = Urgency.bind()
plain = Service(tagger)
composed = Service(triage.bind(tagger, urgency), tagger)
slow = Service(Tagger.options(num_replicas=2).bind(delay_s=0.1))


def rows(n):
    """Rows of all kinds: good, refused by the schema, and failing in the model."""
    texts = ["plain text", "aeiou", "!raise here", "", "more of the same text", "xyz"]
    given = [{"text": f"{texts[i % 6]} {i}", "priority": (i * 7) % 20} for i in range(n)]
    for i in range(10, n, 50):
        given[i] = {"text": f"row {i}", "priority": -1}
    return given
