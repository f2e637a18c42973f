"""What the tests of this folder share: a service around a small real model, asked without sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from salver import Service, Threshold, deployment
from salver.definition import Deployment
from salver.online.feedback import Recording
from salver.online.front import Front
from salver.options import ServerSettings
from salver.pipeline import Pipeline
from salver.types import Batch, Outcome


class Project(BaseModel):
    title: str = ""
    description: str = ""


@deployment(input=Project, policy=Threshold(0.6, otherwise="other"))
class Tagger:
    """Tags a project by the words it holds."""

    classes_ = ("cv", "nlp")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if any("raise" in title for title in batch["title"]):
            raise ValueError("a secret path: /etc/passwd")
        nlp = np.array([self._score(*row) for row in zip(*batch.values(), strict=True)])
        return {"probabilities": np.stack([1 - nlp, nlp], axis=1)}

    def _score(self, title: str, description: str) -> float:
        if "nan" in title:
            return float("nan")
        text = f"{title} {description}"
        return 0.5 + 0.4 * (("text" in text) - ("image" in text))


class InProcess:
    """A handle around a pipeline in this process: no queue, no replica.

    Attributes:
        asked: The batches that came.
        error: Raised instead of an answer.
        gate: While it is there and not set, answers wait for it.
    """

    def __init__(self, one: Deployment) -> None:
        self._pipeline = Pipeline(one.target(), one.policies)
        self.asked: list[Batch] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.cancelled = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def ask(self, batch: Batch, timeout_s: float | None = None) -> asyncio.Future[list[Outcome]]:
        return asyncio.ensure_future(self._answer(batch))

    async def _answer(self, batch: Batch) -> list[Outcome]:
        self.asked.append(batch)
        if self.error is not None:
            raise self.error
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return list(self._pipeline.run(batch))


@dataclass
class Reply:
    """An answer as it left the app."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        def refuse(literal: str) -> None:
            raise AssertionError(f"{literal} is not JSON")

        return json.loads(self.body, parse_constant=refuse)

    @property
    def code(self) -> str:
        code: str = self.json()["error"]["code"]
        return code


class Served:
    """A front over a service, and the handle it asks."""

    def __init__(
        self,
        service: Service | None = None,
        kind: type[InProcess] = InProcess,
        recording: Callable[[CollectorRegistry], Recording] | None = None,
        **settings: Any,
    ) -> None:
        self.service = service or Service(Tagger.bind())
        self.handles = {d.name: kind(d) for d in self.service.exposed}
        self.handle = next(iter(self.handles.values()))
        self.registry = CollectorRegistry()
        self.ready = True
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self.front = Front(
            self.service,
            self.handles,
            settings=ServerSettings(**settings),
            registry=self.registry,
            readiness=lambda: {"ready": self.ready, "deployments": {}},
            examples=lambda name: self.examples.get(name, []),
            recording=None if recording is None else recording(self.registry),
        )

    def ask(
        self, method: str, path: str, body: bytes | Any = b"", headers: dict[str, str] | None = None
    ) -> Reply:
        """One request in an event loop of its own."""
        return asyncio.run(self.request(method, path, body, headers))

    def predict(self, body: Any, **headers: str) -> Reply:
        """One POST to /predict/."""
        return self.ask("POST", "/predict/", body, headers)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Any = b"",
        headers: dict[str, str] | None = None,
        parts: Sequence[bytes] | None = None,
        left: asyncio.Event | None = None,
    ) -> Reply:
        """One request; it ends when the client leaves, which is when `left` is set."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        given = {"host": "testserver", **(headers or {})}
        scope = http_scope(method, path, given)
        messages = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts or ()
        ]
        messages.append({"type": "http.request", "body": body, "more_body": False})

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            await (left or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        reply = Reply()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not reply.status, "two heads"
                reply.status = message["status"]
                reply.headers = {n.decode(): v.decode() for n, v in message["headers"]}
            else:
                reply.body += message.get("body", b"")

        await self.front(scope, receive, send)
        if reply.status and method != "HEAD" and "content-length" in reply.headers:
            assert int(reply.headers["content-length"]) == len(reply.body)
        return reply

    def metric(self, name: str, **labels: str) -> float | None:
        """The present value of a metric."""
        return self.registry.get_sample_value(name, labels)


def http_scope(method: str, path: str, headers: dict[str, str]) -> Any:
    """An ASGI scope as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()],
        "state": {},
    }
