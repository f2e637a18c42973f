"""What tests of a service need: a client without a socket, a stub model and a clock to set.

It ships with the package, and Salver's own tests use it. It does not know any test framework.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import orjson

from salver.run import reference_of
from salver.service import Service
from salver.session import Configuration, Face, Session


@dataclass
class FakeClock:
    """A clock that stands still until it is told to move.

    Attributes:
        now: The time, in seconds.
    """

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        self.now += seconds


class StubModel:
    """A model whose answers follow from the text alone, in no time and without weights.

    The probability of the first class is the share of vowels in the row's texts; a row whose text
    holds `raises` makes the model raise ValueError.

    Args:
        classes: Two or more class names; the rest of the probability is shared by the others.
        raises: Text that stands for a row the model cannot take.
    """

    def __init__(self, classes: Iterable[str] = ("yes", "no"), raises: str = "!raise") -> None:
        self.classes_ = list(classes)
        self._raises = raises

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        columns = [column for column in batch.values() if column.dtype == object]
        texts = ["".join(str(value) for value in row) for row in zip(*columns, strict=True)]
        return {"probabilities": np.array([self._probabilities(text) for text in texts])}

    def _probabilities(self, text: str) -> list[float]:
        if self._raises in text:
            raise ValueError(f"the text holds {self._raises!r}")
        first = sum(letter in "aeiou" for letter in text) / len(text) if text else 0.0
        others = len(self.classes_) - 1
        return [first, *[(1 - first) / others] * others]


@dataclass(frozen=True)
class Response:
    """An HTTP answer.

    Attributes:
        status: HTTP status.
        headers: Header values by lower-case name.
        content: The body, bytes.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.content)


@dataclass
class Client:
    """Runs a service in this process and asks it as HTTP would, without a socket.

    Use it as a context manager: the engine starts on entering and is gone on leaving.

    Args:
        service: What to ask.
        options: Options by name, as `--set` takes them, for example `{"num_replicas": 2}`.
    """

    service: Service
    options: Mapping[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Client:
        sets = tuple(f"{name}={json.dumps(value)}" for name, value in self.options.items())
        configuration = Configuration(sets=sets)
        overrides = configuration.overrides(self.service)
        self._session = Session(self.service)
        try:
            self._session.start(reference_of(self.service), configuration)
            assert self._session.engine is not None
            settings = configuration.settings(overrides)
            if "record" not in self.options:  # a test is no answer, wherever those are kept
                settings = settings.replace({"record": None}, "the server options")
            self._face = Face(self._session.engine, settings)
            self._session.wait_for(self._start_app())
        except BaseException:
            self._session.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._session.wait_for(self._stop_app())
        finally:
            try:
                self._session.wait_for(self._face.close_account())
            finally:
                self._session.close()

    def predict(self, rows: Any, path: str = "/predict/") -> Any:
        """The `results` for one row or a list of rows.

        Raises:
            AssertionError: If the answer is no 200; holds the answer.
        """
        response = self.post(path, rows)
        if response.status != 200:
            raise AssertionError(f"{response.status}: {response.content.decode()}")
        return response.json()["results"]

    def get(self, path: str) -> Response:
        """Answer to a GET."""
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Response:
        """Answer to a POST of `body` as JSON; bytes are sent as they are."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.request("POST", path, content, {"content-type": "application/json"})

    def request(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Answer to any request."""
        return self._session.wait_for(self._request(method, path, content, dict(headers or {})))

    async def _start_app(self) -> None:
        """Runs the startup of the user's app, as a server does."""
        self._to_app: asyncio.Queue[Any] = asyncio.Queue()
        self._from_app: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        lifespan = self._face.front(scope, self._to_app.get, self._from_app.put)
        self._lifespan = asyncio.ensure_future(lifespan)
        self._to_app.put_nowait({"type": "lifespan.startup"})
        message = await self._from_app.get()
        if message["type"] != "lifespan.startup.complete":
            raise RuntimeError(f"The app failed to start: {message.get('message', '')}")

    async def _stop_app(self) -> None:
        self._to_app.put_nowait({"type": "lifespan.shutdown"})
        await self._lifespan

    async def _request(
        self, method: str, path: str, content: bytes, headers: dict[str, str]
    ) -> Response:
        headers = {"host": "localhost", "content-length": str(len(content))} | headers
        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        incoming = iter([{"type": "http.request", "body": content, "more_body": False}])
        sent: list[Any] = []

        async def receive() -> Any:
            message = next(incoming, None)
            return message or await asyncio.Event().wait()  # this client never leaves

        async def send(message: Any) -> None:
            sent.append(message)

        await self._face.front(scope, receive, send)
        start = sent[0]
        return Response(
            start["status"],
            {k.decode().lower(): v.decode() for k, v in start.get("headers", [])},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )
