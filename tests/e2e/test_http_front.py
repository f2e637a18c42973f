"""The front over real HTTP: a service with a model, an engine, a server and a user's app."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import requests
from fastapi import FastAPI
from openapi_spec_validator import validate
from pydantic import BaseModel

from salver import Service, Threshold, deployment

EXAMPLE = {"title": "Transfer learning with transformers", "description": "text classification"}
STARTED: list[str] = []


class Project(BaseModel):
    title: str = ""
    description: str = ""


@deployment(
    input=Project,
    replica="thread",
    max_batch_size=1,
    policy=Threshold(0.6, otherwise="other"),
    examples=[EXAMPLE],
)
class Tagger:
    """Tags a project by the words it holds; takes its time over one title."""

    classes_ = ("cv", "nlp")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.6 * sum(title == "slow" for title in batch["title"]))
        texts = [f"{t} {d}" for t, d in zip(batch["title"], batch["description"], strict=True)]
        nlp = np.array([0.5 + 0.4 * ("text" in t) - 0.4 * ("image" in t) for t in texts])
        return {"probabilities": np.stack([1 - nlp, nlp], axis=1)}


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    STARTED.append("up")
    yield
    STARTED.append("down")


app = FastAPI(title="Made With ML", lifespan=lifespan)
tagger = Tagger.bind()


@app.get("/tags/{title}")
async def tags(title: str) -> dict[str, str]:
    outcome = await tagger({"title": title})
    return {"tag": outcome["prediction"]}


@app.get("/boom")
def boom() -> None:
    raise ValueError("a secret")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    service = Service(tagger, app=app)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        service.run(blocking=False, port=0, max_body_bytes=1_000_000)
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", said.getvalue())
        assert found is not None
        assert STARTED == ["up"]
        yield found.group()
    finally:
        service.shutdown()
    assert STARTED == ["up", "down"]


def connect(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)


def test_the_lessons_client_is_served(address: str) -> None:
    """A body sent as text without a content type is answered as the lesson shows."""
    reply = requests.post(f"{address}/predict/", data=json.dumps(EXAMPLE), timeout=20)
    assert reply.request.headers.get("content-type") is None
    (result,) = reply.json()["results"]
    assert result["prediction"] == "nlp"
    assert sum(result["probabilities"].values()) == pytest.approx(1)


def test_one_connection_carries_answers_and_refusals(address: str) -> None:
    """Refused requests leave the connection in order for the next ones."""
    connection = connect(address)
    cases: list[tuple[str, str, bytes, dict[str, str], int]] = [
        ("POST", "/predict/", b"[{}, {}]", {}, 200),
        ("POST", "/predict/", b"{", {}, 422),
        ("GET", "/predict/", b"", {}, 405),
        ("POST", "/predict", b"{}", {"content-type": "text/plain"}, 415),
        ("POST", "/predict/", b"{}", {"origin": "http://evil.test"}, 403),
        ("POST", "/predict/", b"[" + b"{}," * 1000 + b"{}]", {}, 413),
        ("HEAD", "/-/healthz", b"", {}, 200),
        ("GET", "/nope", b"", {}, 404),
        ("GET", "/boom", b"", {}, 500),
        ("POST", "/predict/", b"[]", {"x-request-id": "mine"}, 200),
    ]
    for method, path, body, headers, status in cases:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status == status, (method, path, content)
        assert reply.headers["x-request-id"]
        assert b"secret" not in content
    assert (reply.headers["x-request-id"], json.loads(content)) == ("mine", {"results": []})


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_answered(address: str, chunked: bool) -> None:
    """The refusal arrives whether or not the client declared the size."""
    body = b" " * 1_000_001
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    reply = httpx.post(f"{address}/predict/", content=content, timeout=20)
    assert reply.status_code == 413


def test_users_routes_ask_the_deployment(address: str) -> None:
    """A route of the user's app awaits the very deployment that is served."""
    assert httpx.get(f"{address}/tags/image search").json() == {"tag": "cv"}
    assert httpx.get(f"{address}/boom").json()["error"]["code"] == "internal_error"


def test_the_document_holds_what_the_engine_executed(address: str) -> None:
    """The golden example, with the answer it had at start, is in a valid document."""
    document = httpx.get(f"{address}/openapi.json").json()
    validate(document)
    assert document["info"]["title"] == "Made With ML"
    answer = document["paths"]["/predict/"]["post"]["responses"]["200"]["content"]
    (result,) = answer["application/json"]["examples"]["example_1"]["value"]["results"]
    live = httpx.post(f"{address}/predict/", json=EXAMPLE).json()["results"][0]
    assert result["prediction"] == live["prediction"]
    schema = document["components"]["schemas"]["TaggerResult"]
    assert set(schema["properties"]["probabilities"]["properties"]) == {"cv", "nlp"}


def test_pages_and_checks_are_served(address: str) -> None:
    """The page, its assets, readiness, and metrics of both engine and front."""
    page = httpx.get(f"{address}/docs").text
    for reference in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert httpx.get(f"{address}/{reference}").status_code == 200
    ready = httpx.get(f"{address}/-/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    httpx.post(f"{address}/predict/", json=EXAMPLE)
    metrics = httpx.get(f"{address}/metrics").text
    assert 'salver_rows_total{deployment="Tagger",outcome="ok"}' in metrics
    assert "salver_batch_rows_bucket" in metrics


def test_rows_of_a_client_that_left_are_dropped(address: str) -> None:
    """A client that leaves while its rows wait behind a slow one costs no prediction."""
    rows, gone = predicted(address), left(address)
    slow = socket_with_request(address, {"title": "slow"})
    time.sleep(0.1)  # the slow row is with the replica now
    leaving = socket_with_request(address, [EXAMPLE] * 5)
    time.sleep(0.2)  # long enough for the front to listen for the disconnect
    leaving.close()
    assert b"200 OK" in slow.recv(65536)
    slow.close()
    deadline = time.monotonic() + 10
    while left(address) == gone and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(address) == gone + 1
    assert predicted(address) == rows + 1


def socket_with_request(address: str, rows: Any) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps(rows).encode()
    opened = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST /predict/ HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    opened.sendall(head.encode() + body)
    return opened


def metric(address: str, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", httpx.get(f"{address}/metrics").text, re.M)
    return float(found.group(1)) if found else 0.0


def left(address: str) -> float:
    name = 'salver_http_requests_total{method="POST",route="/predict/",status="499"}'
    return metric(address, name)


def predicted(address: str) -> float:
    """Rows that reached the model."""
    return metric(address, 'salver_batch_rows_sum{deployment="Tagger"}')
