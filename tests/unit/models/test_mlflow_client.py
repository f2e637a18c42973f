from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from salver.errors import TrackingError, TrackingUnavailable
from salver.models import mlflow_client
from salver.models.mlflow_client import MlflowStore
from salver.models.reference import ModelVersion


@contextmanager
def server(answer: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server on loopback that sends `answer` to everyone, and closes the connection.

    With a pause it sends byte by byte, and blanks for ever after; an empty answer means that it
    accepts and never says anything.
    """
    stop = threading.Event()
    pieces = [answer] if not pause_s else [answer[i : i + 1] or b" " for i in range(9999)]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with contextlib.suppress(OSError):  # the client has had enough, which is the test
                for piece in pieces:
                    self.request.sendall(piece)
                    if stop.wait(pause_s):
                        return
            if not answer:
                stop.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as tcp:
        threading.Thread(target=tcp.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{tcp.server_address[1]}"
        finally:
            stop.set()
            tcp.shutdown()


def http(status: str, body: str, *headers: str) -> bytes:
    """A complete HTTP response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


GARBAGE = {
    "no HTTP": b"220 ftp.example.test ready\r\n",
    "closes at once": b"\r\n",
    "HTML 200": http("200 OK", "<html>Welcome</html>"),
    "empty object": http("200 OK", "{}"),
    "empty body": http("200 OK", ""),
    "a list": http("200 OK", "[1, 2]"),
    "wrong types": http("200 OK", '{"experiment": 7, "run": "x", "model_version": []}'),
    "HTML 404": http("404 Not Found", "<html>nothing here</html>"),
    "JSON 404 of a stranger": http("404 Not Found", '{"detail": "Not Found"}'),
    "401": http("401 Unauthorized", "who are you"),
    "403": http("403 Forbidden", '{"error_code": "PERMISSION_DENIED", "message": "no"}'),
    "500": http("500 Internal Server Error", "oops"),
    "503 come back in an hour": http("503 Busy", "", "Retry-After: 3600"),
    "truncated": http("200 OK", "x" * 100)[:-50],
    "redirect to itself": http("302 Found", "", "Location: /"),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.timeout(30)
def test_garbage_is_no_answer(answer: bytes) -> None:
    """Whatever is not MLflow's answer counts as a server that is down, and costs little time."""
    with server(answer) as uri:
        started = time.monotonic()
        for ask in (
            lambda store: store.best_run("exp", "val_loss", "min"),
            lambda store: store.artifact_uri("abc"),
            lambda store: store.model_source(ModelVersion("tagger", None, "champion")),
        ):
            with pytest.raises(TrackingUnavailable, match=r"127\.0\.0\.1"):
                ask(MlflowStore(uri))
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("drips", [False, True], ids=["never answers", "a byte at a time"])
@pytest.mark.timeout(30)
def test_a_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, drips: bool) -> None:
    """The questions of one store share one deadline, whatever the server does with its bytes."""
    monkeypatch.setattr(mlflow_client, "LOOKUP_S", 1.0)
    with server(b"HTTP/1.1 200 OK\r\nX: " if drips else b"", pause_s=0.05) as uri:
        store = MlflowStore(uri)
        started = time.monotonic()
        with pytest.raises(TrackingUnavailable, match="in time"):
            store.best_run("exp", "val_loss", "min")
        assert time.monotonic() - started < 2
        with pytest.raises(TrackingUnavailable, match="in time"):
            store.artifact_uri("abc")
        assert time.monotonic() - started < 2


@pytest.mark.timeout(30)
def test_a_closed_port_is_noticed_at_once() -> None:
    """Where nothing listens, nobody waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    store = MlflowStore(f"http://me:hunter2@127.0.0.1:{port}")
    started = time.monotonic()

    with pytest.raises(TrackingUnavailable) as caught:
        store.artifact_uri("abc")
    assert time.monotonic() - started < 2
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("uri", ["nonsense://x", "file:///nowhere/mlruns"])
def test_a_uri_that_mlflow_refuses_is_no_outage(uri: str) -> None:
    """A wrong tracking URI is told from a server that is down: no stale copy may hide it."""
    with pytest.raises(TrackingError, match="MLflow refuses") as caught:
        MlflowStore(uri)
    assert not isinstance(caught.value, TrackingUnavailable)


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's settings hold during a call only, and what the operator has set is respected."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = dict(os.environ)

    seen = mlflow_client._bounded(lambda: dict(os.environ), 5.0, "here")

    assert seen["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert seen["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert seen["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert before == dict(os.environ)
