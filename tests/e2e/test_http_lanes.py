"""Predictions on the short lane and through ASGI: the same requests get the same answers.

A request target with a query is not the lane's, so that adding one sends a request the longer way.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from salver import Service, deployment

GATE = threading.Event()


class Row(BaseModel):
    text: str
    number: float = 0


@deployment(input=Row, replica="thread", num_replicas=1, max_batch_size=1)
class Echo:
    """Says what it was given; a text decides how."""

    def __call__(self, batch: dict[str, Any]) -> list[Any]:
        texts = list(batch["text"])
        if "raise" in texts:
            raise ValueError("a secret")
        if "slow" in texts:
            time.sleep(0.8)
        if "wait" in texts:
            GATE.wait(0.3)
        return [{"said": t, "number": n} for t, n in zip(texts, batch["number"], strict=True)]


@contextlib.contextmanager
def served(bound: Any, **options: Any) -> Iterator[int]:
    service = Service(bound)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        service.run(blocking=False, port=0, **options)
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said.getvalue())
        assert found is not None
        yield int(found[1])
    finally:
        service.shutdown()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(Echo.bind(), max_body_bytes=5000, max_rows=3) as port:
        yield port


def raw(target: str, body: bytes, *lines: str, version: str = "1.1", method: str = "POST") -> bytes:
    length = [] if any("chunked" in line for line in lines) else [f"content-length: {len(body)}"]
    head = [f"{method} {target} HTTP/{version}", "host: localhost", *length, *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def exchange(port: int, *requests: bytes, answers: int) -> bytes:
    """What comes back for requests sent at once, until that many answers are there or it ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"".join(requests))
        received = b""
        while not is_complete(received, answers) and (part := connection.recv(65536)):
            received += part
        return received


def is_complete(received: bytes, answers: int) -> bool:
    for _ in range(answers):
        head, blank, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not blank or length is None or len(rest) < int(length[1]):
            return False
        received = rest[int(length[1]) :]
    return True


def shape(answer: bytes) -> tuple[bytes, list[bytes], Any]:
    """Status line, sorted header lines and body, without what differs between any two answers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    kept = [
        line for line in lines if not line.startswith((b"date:", b"x-request-id: ", b"content-l"))
    ]
    said = json.loads(body)
    if "error" in said:
        said["error"].pop("request_id")
    return status, sorted(kept), said


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


ROW = b'{"text": "a", "number": 2}'
JSON = "content-type: application/json"
CASES: dict[str, tuple[bytes, list[str]]] = {
    "row": (ROW, [JSON]),
    "no type": (ROW, []),
    "list": (b'[{"text": "a"}, {"text": "b"}]', [JSON]),
    "empty list": (b"[]", [JSON]),
    "too many": (b'[{"text": "a"},{"text": "a"},{"text": "a"},{"text": "a"}]', [JSON]),
    "no json": (b"{", [JSON]),
    "nothing": (b"", [JSON]),
    "wrong field": (b'{"text": 1}', [JSON]),
    "twice": (b'{"text": "a", "text": "b"}', [JSON]),
    "utf-8": ('{"text": "Zürich \U0001f600"}'.encode(), [JSON]),
    "no utf-8": (b'{"text": "\xff"}', [JSON]),
    "all failed": (b'{"text": "raise"}', [JSON]),
    "one failed": (b'[{"text": "raise"}, {"text": "b"}]', [JSON]),
    "form": (ROW, ["content-type: application/x-www-form-urlencoded"]),
    "compressed": (ROW, [JSON, "content-encoding: gzip"]),
    "closing": (ROW, [JSON, "connection: close"]),
    "foreign origin": (ROW, [JSON, "origin: http://evil.test"]),
    "chunks": (chunked(ROW), [JSON, "transfer-encoding: chunked"]),
    "own id": (ROW, [JSON, "x-request-id: mine"]),
    "odd id": (ROW, [JSON, "x-request-id: m;ne"]),
}


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_the_same_on_the_lane_and_through_asgi(port: int, case: str) -> None:
    """Status, headers and body agree, also when the very same head comes for the second time."""
    body, lines = CASES[case]
    expected = shape(exchange(port, raw("/predict/?q=1", body, *lines), answers=1))
    for _ in range(3):
        assert shape(exchange(port, raw("/predict/", body, *lines), answers=1)) == expected


def test_a_late_answer_is_the_same_on_the_lane_and_through_asgi() -> None:
    """A deadline that passes gives the same 504."""
    body = b'{"text": "slow"}'
    with served(Echo.options(request_timeout_s=0.3).bind()) as port:
        first, second = (
            shape(exchange(port, raw(target, body, JSON), answers=1))
            for target in ("/predict/", "/predict/?q=1")
        )
    assert first == second
    assert b" 504 " in first[0]


def test_an_old_client_is_answered_through_asgi(port: int) -> None:
    """HTTP/1.0 is not the lane's, and gets its answer."""
    answer = exchange(port, raw("/predict/", ROW, version="1.0"), answers=1)
    assert b" 200 OK" in answer and b"connection: close" in answer


def test_answers_come_in_the_order_of_the_requests(port: int) -> None:
    """Requests that are sent at once are answered in order, whichever way each goes."""
    GATE.clear()
    bodies = [b'{"text": "wait"}', b'{"text": "1"}', b'{"text": "2"}', b'{"text": "3"}']
    targets = ["/predict/", "/predict/", "/predict/?q=1", "/predict/"]
    sent = [raw(t, b) for t, b in zip(targets, bodies, strict=True)]
    received = exchange(port, *sent, answers=4)
    assert re.findall(rb'"said":"(\w+)"', received) == [b"wait", b"1", b"2", b"3"]


def test_known_heads_do_not_mix_bodies(port: int) -> None:
    """The same head many times over one connection, each time with another body."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for i in range(200):
            body = b'{"text": "row %03d"}' % i
            message = raw("/predict/", body, JSON)
            if i % 3 == 1:  # in two parts, so that the parser must read it
                connection.sendall(message[: len(message) // 2])
                time.sleep(0.001)
                connection.sendall(message[len(message) // 2 :])
            else:
                connection.sendall(message)
            received = b""
            while not is_complete(received, 1):
                received += connection.recv(65536)
            assert b"row %03d" % i in received


def test_a_request_that_takes_too_long_to_drain_is_answered() -> None:
    """When the service ends first, the client of a request on the lane gets 503."""
    stuck = threading.Event()

    @deployment(input=Row, replica="thread", num_replicas=1, max_batch_size=1)
    class Stuck:
        def __call__(self, batch: dict[str, Any]) -> list[Any]:
            stuck.wait(5)
            return ["late"] * len(batch["text"])

    answers: list[bytes] = []
    with served(Stuck.bind(), drain_timeout_s=0.3) as port:
        asked = threading.Thread(
            target=lambda: answers.append(exchange(port, raw("/predict/", ROW), answers=1))
        )
        asked.start()
        time.sleep(0.3)
    stuck.set()
    asked.join(10)
    assert b" 503 " in answers[0] and b"not_ready" in answers[0]
