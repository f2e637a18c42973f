from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from serving import Served, Tagger
from starlette.responses import PlainTextResponse, StreamingResponse

from salver import Service
from salver.errors import QueueFull
from salver.types import Failure, Outcome


def served_with(app: Any) -> Served:
    return Served(Service(Tagger.bind(), app=app))


def lifespan_of(app: Any) -> list[str]:
    """Types of the messages that a server hears from startup and shutdown."""

    async def run() -> list[str]:
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        await served_with(app).front(scope, receive, send)
        return sent

    return asyncio.run(run())


BOTH = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_users_routes_keep_their_own_errors() -> None:
    """HTTPException, validation and 404 of a FastAPI app look as they do without Salver."""
    app = FastAPI()

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418, "short and stout")

    @app.get("/number/{n}")
    def number(n: int) -> int:
        return n

    served = served_with(app)
    assert served.ask("GET", "/teapot").json() == {"detail": "short and stout"}
    assert served.ask("GET", "/number/x").json()["detail"][0]["loc"] == ["path", "n"]
    assert served.ask("GET", "/nope").json() == {"detail": "Not Found"}


@pytest.mark.parametrize("debug", [False, True])
def test_an_unhandled_exception_is_an_internal_error(
    debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A route that raises gets Salver's JSON 500, never a traceback; the log has the reason."""
    app = FastAPI(debug=debug)

    @app.get("/boom")
    def boom() -> None:
        raise ValueError("a secret")

    reply = served_with(app).ask("GET", "/boom")
    assert (reply.status, reply.code) == (500, "internal_error")
    assert reply.headers["content-type"] == "application/json"
    assert b"secret" not in reply.body
    assert "a secret" in caplog.text


def test_a_users_own_handler_for_everything_is_kept() -> None:
    """An app that answers its exceptions itself goes on doing so."""
    app = FastAPI()

    @app.exception_handler(Exception)
    async def handle(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"mine": str(error)}, 500)

    @app.get("/boom")
    def boom() -> None:
        raise ValueError("mine")

    reply = served_with(app).ask("GET", "/boom")
    assert (reply.status, reply.json()) == (500, {"mine": "mine"})


def test_a_500_without_an_exception_is_the_users() -> None:
    """A 500 that a route returns on purpose passes through, a long one too."""
    app = FastAPI()

    @app.get("/sorry")
    def sorry() -> PlainTextResponse:
        return PlainTextResponse("sorry" * 50_000, 500)

    reply = served_with(app).ask("GET", "/sorry")
    assert (reply.status, len(reply.body)) == (500, 250_000)


def test_a_refusal_of_a_deployment_reaches_the_client() -> None:
    """A full queue met in a user's route is a 503, a failed row its own error."""
    app = FastAPI()

    @app.get("/full")
    async def full() -> None:
        raise QueueFull("The queue is full.", 3)

    @app.get("/failed")
    async def failed() -> Any:
        return Outcome(None, Failure("model_error", "The model raised."))["prediction"]

    served = served_with(app)
    reply = served.ask("GET", "/full")
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "queue_full", "3")
    assert served.ask("GET", "/failed").code == "model_error"


def test_streams_pass_through() -> None:
    """A streamed answer is not gathered."""
    app = FastAPI()

    @app.get("/stream")
    def stream() -> StreamingResponse:
        def parts() -> Iterable[bytes]:
            yield from (b"a", b"b", b"c")

        return StreamingResponse(parts())

    reply = served_with(app).ask("GET", "/stream")
    assert (reply.status, reply.body) == (200, b"abc")
    assert "content-length" not in reply.headers


def test_an_app_that_says_nothing_is_an_internal_error() -> None:
    """An app that returns without an answer is answered for."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return None

    assert served_with(app).ask("GET", "/").code == "internal_error"


def test_startup_and_shutdown_of_the_app_run() -> None:
    """The user's lifespan is driven by the server's, and its state reaches it."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        seen.append("up")
        yield {"answer": 42}
        seen.append("down")

    assert lifespan_of(FastAPI(lifespan=lifespan)) == BOTH
    assert seen == ["up", "down"]


def test_a_failed_startup_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The server hears that the app failed to start, and the log says why."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    with pytest.raises(RuntimeError, match="no database"):
        lifespan_of(FastAPI(lifespan=lifespan))
    assert "no database" in caplog.text


@pytest.mark.parametrize("when", ["raises", "returns", "raises late"])
def test_an_app_without_a_lifespan_is_served(when: str) -> None:
    """An app that knows no lifespan may raise or return; the server is told that all is well."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if when == "raises late":
            await receive()
        if when != "returns":
            raise AssertionError(scope["type"])

    assert lifespan_of(app) == BOTH


def test_a_service_without_an_app_has_a_lifespan() -> None:
    """Startup and shutdown are answered."""
    assert lifespan_of(None) == BOTH
