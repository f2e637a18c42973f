"""The steps of one request, each as a function that does it alone, on Salver's own code.

Every step is what the running server does; only sockets and the second process are left out. It
does not know how steps are timed or shown.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import uvicorn
from pydantic import BaseModel
from uvicorn.server import ServerState

from bench.predictors import CLASSES, CONSTANT_ROW
from salver import Service, Threshold, deployment
from salver.definition import Deployment
from salver.engine import frames
from salver.engine.batching import Batcher, Entry
from salver.engine.dispatcher import Ticket
from salver.engine.metrics import EngineMetrics
from salver.online.front import Front
from salver.online.http_lane import Lane, LaneRequest, Lanes
from salver.online.http_protocol import HttpProtocol
from salver.online.http_rules import Hosts, HttpLimits
from salver.online.predict import PredictLane
from salver.options import ServerSettings
from salver.pipeline import Pipeline
from salver.types import Batch, Outcome, text_length

BODY = (
    b'{"title": "Transfer learning with transformers", "description": "Using transformers for '
    b'transfer learning on text classification tasks."}'
)
REQUEST = (
    b"POST /predict/ HTTP/1.1\r\nhost: localhost:8000\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Project(BaseModel):
    """The request."""

    title: str = ""
    description: str = ""


class Constant:
    """No model, so that every step but the model's own is seen."""

    def __init__(self) -> None:
        self.classes_ = list(CLASSES)
        self._rows = np.tile(np.array(CONSTANT_ROW), (1024, 1))

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"probabilities": self._rows[: len(batch["title"])]}


Served: Any = deployment(input=Project, policy=Threshold(0.9, otherwise="other"))(Constant)


@dataclass(frozen=True)
class Step:
    """One step for a whole batch.

    Attributes:
        name: What it is called in the table.
        process: Where it runs: "front" or "replica".
        run: Does it once for all rows of the batch.
        counts: False for a step that stands beside another of which one is done.
    """

    name: str
    process: str
    run: Callable[[], Any]
    counts: bool = True


def steps(rows: int) -> list[Step]:
    """The steps of `rows` requests of one row each, in order; needs a running event loop."""
    one = Service(Served.bind()).exposed[0]
    schema = one.schema
    (row,) = schema.parse_json(BODY).rows
    batch = Batch(schema.fields, [row] * rows)
    pipeline = Pipeline(Constant(), one.policies)
    outcomes = pipeline.run(batch)
    asked = frames.pack([1, "run", list(batch.rows)])
    told = frames.pack([1, frames.outcomes_as_message(outcomes)])

    def read_outcomes() -> None:
        ((_, message),) = frames.FrameReader().feed(told)
        frames.outcomes_from_message(message)

    def write_outcomes() -> None:
        frames.pack([1, frames.outcomes_as_message(outcomes)])

    return [
        Step("read request, new head", "front", _reading(rows, known=False), counts=False),
        Step("read request, known head", "front", _reading(rows, known=True)),
        Step("parse, validate", "front", _each(rows, lambda: schema.parse_json(BODY))),
        Step("queue", "front", _queueing(batch)),
        Step("write frame", "front", lambda: frames.pack([1, "run", list(batch.rows)])),
        Step("read frame", "replica", lambda: list(frames.FrameReader().feed(asked))),
        Step("columns, model, policy", "replica", lambda: pipeline.run(batch)),
        Step("write frame", "replica", write_outcomes),
        Step("read frame", "front", read_outcomes),
        Step("outcomes", "front", lambda: list(outcomes)),
        Step("encode, write", "front", _answering(one, list(outcomes))),
    ]


class _Wire(asyncio.Transport):
    """A transport that takes everything and sends nothing."""

    def write(self, data: Any) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class _Hasty:
    """A lane that answers at once, to see what reading costs."""

    def takes(self, headers: Mapping[bytes, bytes]) -> bool:
        return True

    def begin(self, request: LaneRequest) -> None:
        request.send(200, b"", b"")


class _Answered:
    """A handle whose answer is there already."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.loop = asyncio.get_running_loop()
        self._outcomes = outcomes

    def ask(self, batch: Batch, timeout_s: float | None = None) -> asyncio.Future[list[Outcome]]:
        future: asyncio.Future[list[Outcome]] = self.loop.create_future()
        future.set_result(self._outcomes)
        return future


def _each(rows: int, run: Callable[[], Any]) -> Callable[[], None]:
    def for_all() -> None:
        for _ in range(rows):
            run()

    return for_all


def _connection(lane: Lane) -> tuple[HttpProtocol, Lanes]:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    lanes = Lanes({b"/predict/": lane})
    config = uvicorn.Config(app, interface="asgi3", log_config=None)
    config.load()
    hosts = Hosts(["localhost"])
    connection = HttpProtocol(
        config, ServerState(), {}, limits=HttpLimits(), hosts=hosts, lanes=lanes
    )
    connection.connection_made(_Wire())
    return connection, lanes


def _reading(rows: int, known: bool) -> Callable[[], None]:
    """Reads requests off the wire; with a head that is new it takes the HTTP parser."""
    connection, lanes = _connection(_Hasty())

    def run() -> None:
        if not known:
            lanes.known.clear()
        connection.data_received(REQUEST)

    return _each(rows, run)


def _queueing(batch: Batch) -> Callable[[], None]:
    """Makes a ticket for each row, queues it, and takes all as one batch."""
    loop = asyncio.get_running_loop()
    batcher = Batcher(max_batch_size=len(batch), limit=len(batch))

    def run() -> None:
        for row in batch.rows:
            ticket = Ticket(1, loop.create_future(), 30.0, loop.time() + 30.0, {})
            batcher.put([Entry(row, text_length(row), loop.time(), ticket.deadline, ticket, 0)])
        batcher.take(loop.time())

    return run


def _answering(one: Deployment, outcomes: Sequence[Outcome]) -> Callable[[], None]:
    """Encodes the answer to each row and writes it, with its request id, counted."""
    front = Front(
        Service(one),
        {one.name: _Answered([])},
        settings=ServerSettings(),
        registry=EngineMetrics().registry,
        readiness=lambda: {"ready": True},
        examples=lambda _name: [],
    )
    lane = cast(PredictLane, front.lanes()[b"/predict/"])
    connection, lanes = _connection(lane)
    nothing = Batch((), [])
    futures = [_Answered([outcome]).ask(nothing) for outcome in outcomes]

    def run() -> None:
        for future in futures:
            request = LaneRequest(connection, lanes, lane, {}, keep_alive=True)
            lane.finish(request, nothing, 0.0, future)

    return run
