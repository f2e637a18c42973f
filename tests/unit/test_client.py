"""The client against scripted answers on a real socket."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from salver.client import Client
from salver.errors import DeadlineExceeded, InvalidInput, NotReady, QueueFull, SalverError
from salver.testing import FakeClock

GOOD = (200, {"results": [{"prediction": "x"}]}, {})
BROKEN = None  # the connection ends without an answer


def error(status: int, code: str, **more: Any) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": {"code": code, "message": "said", **more}}, {}


@contextmanager
def scripted(*answers: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives these answers in turn, the last one for ever; and what it was asked."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            asked.append({"path": self.path, "content": json.loads(content), **self.headers})
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer is BROKEN:
                self.close_connection = True
                return
            status, said, headers = answer
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Quiet."""

    socketserver.TCPServer.allow_reuse_address = True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Pauses take no time; the client's alone, since other threads of this process wait too."""
    fake = FakeClock()
    module = SimpleNamespace(monotonic=fake, sleep=fake.advance)
    monkeypatch.setattr("salver.client.time", module)
    return fake


def test_one_row_has_one_answer_and_a_list_has_a_list(clock):
    """At the path of the only deployment, or of the one that is named."""
    with scripted(GOOD) as (url, asked), Client(f"{url}/v1/", api_key="secret") as client:
        assert {"prediction": "x"} == client.predict({"text": "a"})
        assert [{"prediction": "x"}] == client.predict([{"text": "a"}], "Tagger")
    assert ["/v1/predict/", "/v1/Tagger/predict/"] == [one["path"] for one in asked]
    assert [{"text": "a"}, [{"text": "a"}]] == [one["content"] for one in asked]
    assert {"Bearer secret"} == {one["authorization"] for one in asked}


def test_details_are_asked_for_in_the_url(clock):
    """Where any are."""
    with scripted(GOOD) as (url, asked), Client(url) as client:
        client.predict({"text": "a"}, details=["confidence", "novelty"])
        client.predict({"text": "a"}, "Tagger", ())
    paths = [one["path"] for one in asked]
    assert ["/predict/?details=confidence%2Cnovelty", "/Tagger/predict/"] == paths


@pytest.mark.parametrize(
    "lost",
    [
        BROKEN,
        (500, b"Internal Server Error", {}),
        (502, b"<html>", {}),
        (503, {"error": {"code": "too_many_connections", "message": "said"}}, {}),
        error(503, "not_ready"),
        (503, b"", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    ],
)
def test_what_was_lost_on_the_way_is_asked_again(clock, lost):
    """A broken connection, a proxy's error, a service that is not ready yet."""
    with scripted(lost, lost, GOOD) as (url, asked), Client(url) as client:
        assert {"prediction": "x"} == client.predict({"text": "a"})
    assert 3 == len(asked)


def test_a_full_queue_is_asked_again_when_it_says(clock):
    """Not before `Retry-After`."""
    status, said, _ = error(503, "queue_full")
    with scripted((status, said, {"retry-after": "7"}), GOOD) as (url, _), Client(url) as client:
        client.predict({"text": "a"})
    assert 7 == clock.now


def test_it_gives_up_in_time(clock):
    """With the last error, and never later than it was told."""
    with (
        scripted(error(503, "queue_full")) as (url, asked),
        Client(url, retry_s=20) as client,
        pytest.raises(QueueFull, match="said"),
    ):
        client.predict({"text": "a"})
    assert 15 < clock.now <= 20
    assert len(asked) > 5


def test_an_error_of_the_asker_is_asked_once(clock):
    """As the class it has in the service, with its problems."""
    problems = [{"path": ["text"], "message": "missing"}]
    answer = error(422, "invalid_input", problems=problems)
    with (
        scripted(answer) as (url, asked),
        Client(url) as client,
        pytest.raises(InvalidInput, match="said") as raised,
    ):
        client.predict({})
    assert problems == list(raised.value.problems)
    assert 1 == len(asked)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(504, "deadline_exceeded"), DeadlineExceeded),
        (error(500, "model_error"), SalverError),
        ((404, b"nothing here", {}), SalverError),
        ((200, b"no JSON", {}), SalverError),
    ],
)
def test_what_would_not_change_is_not_asked_again(clock, answer, kind):
    """Nor does another server's answer pass for a prediction."""
    with scripted(answer) as (url, asked), Client(url) as client, pytest.raises(kind):
        client.predict({"text": "a"})
    assert 1 == len(asked)


def test_a_url_that_is_none_is_told_at_once(clock):
    """It would not become one."""
    with Client("http://") as client, pytest.raises(SalverError, match="cannot be asked"):
        client.predict({"text": "a"})
    assert 0 == clock.now


def test_no_service_is_a_clear_error(clock):
    """That names the URL."""
    with scripted(GOOD) as (url, _):
        pass
    with Client(url) as client, pytest.raises(NotReady, match=f"{url}.* cannot be reached"):
        client.predict({"text": "a"})
