"""The HTTP server against raw sockets: framing, sizes, slow clients, draining."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvloop

from salver.errors import ConfigError
from salver.online.http import HttpLimits, HttpServer, make_server

# ---------------------------------------------------------------------------------------------
# A server in a background thread, an app that tells what it saw, and a client that is a socket.


BIG = 32_000_000  # bytes of an answer; more than any socket buffers hold


class Echo:
    """Answers 200 `METHOD path body` and keeps a list of these; some paths misbehave."""

    def __init__(self) -> None:
        self.seen: list[str] = []  # requests that were read to their end
        self.headers: dict[bytes, bytes] = {}  # of the latest
        self.disconnects = 0
        self.release = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        if scope["path"] == "/early":  # answers before it reads
            await self.answer(send, b"early", status=401)
            return
        if scope["path"] == "/late":  # reads when it is told to
            await self.hold(receive, send)
        body = await self.read(receive)
        if body is not None:
            text = f"{scope['method']} {scope['path']} {body.decode()}"
            self.seen.append(text)
            self.headers = dict(scope["headers"])
            act = getattr(self, scope["path"][1:], None)
            if act is None or await act(receive, send):
                await self.answer(send, text.encode())

    async def read(self, receive: Any) -> bytes | None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return None
            body += message["body"]
            if not message["more_body"]:
                return body

    async def answer(self, send: Any, body: bytes, status: int = 200, missing: int = 0) -> None:
        headers = [(b"content-length", str(len(body) + missing).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": missing > 0})

    # A path of this name does this first; true lets the usual answer follow.

    async def hold(self, receive: Any, send: Any) -> bool:
        while not self.release.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)
        return True

    async def leave(self, receive: Any, send: Any) -> bool:
        await self.read(receive)
        return False

    async def big(self, receive: Any, send: Any) -> bool:
        await self.answer(send, b"x" * BIG)
        return False

    async def stream(self, receive: Any, send: Any) -> bool:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for left in reversed(range(BIG // 64_000)):
            await send({"type": "http.response.body", "body": b"x" * 64_000, "more_body": left > 0})
        return False

    async def cut(self, receive: Any, send: Any) -> bool:
        await self.answer(send, b"half", missing=1)
        raise ValueError("secret")

    async def fault(self, receive: Any, send: Any) -> bool:
        raise ValueError("secret")

    async def exit(self, receive: Any, send: Any) -> bool:
        raise SystemExit(1)

    async def silent(self, receive: Any, send: Any) -> bool:
        return False


class Running:
    """A server that runs in its own thread and loop."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        options.setdefault("port", 0)
        self.server: HttpServer = make_server(app, **options)
        try:
            self.call(self.server.start())
        except BaseException:
            self.end_loop()
            raise
        self.port = self.server.port

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    def stop(self) -> None:
        self.call(self.server.stop(1.0))
        self.end_loop()


@contextmanager
def running(app: Any, **options: Any) -> Iterator[Running]:
    server = Running(app, **options)
    try:
        yield server
    finally:
        server.stop()


class Client:
    """A socket, and a reader of HTTP answers that trusts nothing but their Content-Length."""

    def __init__(self, port: int, timeout_s: float = 5.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes, bytewise: bool = False) -> None:
        with suppress(OSError):  # the server had heard enough
            for i in range(len(data)) if bytewise else ():
                self.sock.sendall(data[i : i + 1])
            if not bytewise:
                self.sock.sendall(data)

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def answer(self) -> tuple[int, bytes, bytes] | None:
        """Status, head and body of the next answer; None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                assert not self.buffer, self.buffer
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        length = re.search(rb"(?i)content-length: (\d+)", head)
        size = int(length[1]) if length and status >= 200 else 0
        while len(self.buffer) < size:
            assert self._more(), "the connection ended within an answer"
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return status, head, body

    def answers(self, wanted: int) -> list[str | int]:
        """Texts of the 200 answers and statuses of the others, to the end of the connection.

        A connection that is still open after the wanted answers is closed from here, so that
        answers too many are found as well.
        """
        found: list[str | int] = []
        while (answer := self.answer()) is not None:
            status, _, body = answer
            found.append(body.decode() if status == 200 else status)
            if len(found) == wanted:
                with suppress(OSError):  # the server was faster
                    self.sock.shutdown(socket.SHUT_WR)
        return found

    def closed_after(self) -> float:
        """Seconds until the server closes the connection."""
        start = time.monotonic()
        while self._more():
            pass
        return time.monotonic() - start


def wait_until(condition: Callable[[], bool], timeout_s: float = 3.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


SMALL = HttpLimits(
    max_body_bytes=100_000,
    max_header_bytes=8_192,
    max_headers=20,
    max_url_bytes=1_024,
    header_timeout_s=20.0,
    body_grace_s=20.0,
    keep_alive_s=20.0,
)
QUICK = HttpLimits(
    header_timeout_s=0.4,
    body_grace_s=0.4,
    body_min_bytes_per_s=1_000,
    keep_alive_s=0.4,
    write_stall_s=0.4,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Running, Echo]]:
    app = Echo()
    with running(app, limits=SMALL) as server:
        yield server, app


@pytest.fixture
def client(shared: tuple[Running, Echo]) -> Iterator[Client]:
    server, app = shared
    app.seen.clear()
    with Client(server.port) as client:
        yield client


@pytest.fixture
def app(shared: tuple[Running, Echo]) -> Echo:
    return shared[1]


# ---------------------------------------------------------------------------------------------
# Framing. A row: a name, the bytes, and what comes back: the echo of each request that is served,
# the status of a refusal, which is always the last.

HOST = b"Host: localhost\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def get(target: bytes = b"/", headers: bytes = HOST, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + headers + b"\r\n"


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


def coding(value: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return post(b"Transfer-Encoding:" + value + b"\r\n", body + SMUGGLED)


def length(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length:" + value + b"\r\n", body + SMUGGLED)


def header(line: bytes) -> bytes:
    return get(headers=HOST + line) + SMUGGLED


def host(line: bytes) -> bytes:
    return get(headers=line) + SMUGGLED


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"

# fmt: off
FRAMING: list[tuple[str, bytes, list[str | int]]] = [
    # What must work.
    ("get", get(), ["GET / "]),
    ("query", get(b"/a?b=c&d"), ["GET /a "]),
    ("percent-encoding", get(b"/a%20b"), ["GET /a b "]),
    ("two slashes", get(b"//evil.test/a"), ["GET //evil.test/a "]),
    ("empty lines before", b"\r\n\r\n" + get(), ["GET / "]),
    ("keep-alive", get() + NEXT, ["GET / ", "GET /next "]),
    ("pipelined", get(b"/1") + get(b"/2") + get(b"/3"), ["GET /1 ", "GET /2 ", "GET /3 "]),
    ("connection close", get(headers=HOST + b"Connection: close\r\n") + SMUGGLED, ["GET / "]),
    ("HTTP/1.0", get(version=b"HTTP/1.0") + SMUGGLED, ["GET / "]),
    ("HTTP/1.0 without Host", get(headers=b"", version=b"HTTP/1.0"), ["GET / "]),
    ("length", post(b"Content-Length: 5\r\n", b"hello") + NEXT, ["POST / hello", "GET /next "]),
    ("length with zeros", post(b"Content-Length: 005\r\n", b"hello"), ["POST / hello"]),
    ("length then spaces", post(b"Content-Length: 5 \t\r\n", b"hello"), ["POST / hello"]),
    ("length 0", post(b"Content-Length: 0\r\n") + NEXT, ["POST / ", "GET /next "]),
    ("no length, no body", post(b"") + NEXT, ["POST / ", "GET /next "]),
    ("body in a get", get(headers=HOST + b"Content-Length: 2\r\n") + b"hi", ["GET / hi"]),
    ("body is no request", length(b" 43", SMUGGLED[:43])[: -len(SMUGGLED)], ["POST / " + SMUGGLED[:43].decode()]),
    ("chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n") + NEXT, ["POST / hello", "GET /next "]),
    ("two chunks", chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), ["POST / hello"]),
    ("chunk size in hex", chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), ["POST / 0123456789"]),
    ("chunk size with zeros", chunked(b"0005\r\nhello\r\n000\r\n\r\n"), ["POST / hello"]),
    ("chunk extension", chunked(b"5;a=b\r\nhello\r\n0;c\r\n\r\n"), ["POST / hello"]),
    ("chunk extension, quoted", chunked(b'5;a="b c"\r\nhello\r\n0\r\n\r\n'), ["POST / hello"]),
    ("trailer", chunked(b"0\r\nX-Sum: 1\r\n\r\n") + NEXT, ["POST / ", "GET /next "]),
    ("Chunked in capitals", coding(b" CHUNKED")[: -len(SMUGGLED)], ["POST / "]),
    ("absolute target", get(b"http://localhost/a?b"), ["GET /a "]),
    ("absolute target, no path", get(b"http://localhost"), ["GET / "]),
    ("absolute target, query only", get(b"http://localhost?a"), ["GET / "]),
    ("absolute target, capitals", get(b"HTTP://LocalHost/a"), ["GET /a "]),
    ("obs-text in a value", get(headers=HOST + b"X: \xe9\r\n"), ["GET / "]),
    ("empty value", get(headers=HOST + b"X:\r\n"), ["GET / "]),
    ("tab before a value", get(headers=HOST + b"X:\t1\r\n"), ["GET / "]),
    ("upgrade", get(headers=HOST + UPGRADE) + NEXT, ["GET / ", "GET /next "]),
    ("upgrade with length", post(UPGRADE + b"Content-Length: 5\r\n", b"hello") + NEXT, ["POST / hello", "GET /next "]),
    ("upgrade with chunks", post(UPGRADE + b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"), ["POST / hello"]),
    ("upgrade, body is a request", post(UPGRADE + b"Content-Length: 43\r\n", SMUGGLED), ["POST / " + SMUGGLED.decode()]),
    ("websocket", get(headers=HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), ["GET / "]),
    ("expectation over HTTP/1.0", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", ["POST / hi"]),
    ("unknown expectation", post(b"Expect: tea\r\nContent-Length: 2\r\n", b"hi"), ["POST / hi"]),
    ("spaces around the target", b"GET  /a  HTTP/1.1\r\n" + HOST + b"\r\n", ["GET /a "]),
    # Request line.
    ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", [400]),
    ("unknown method", b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    ("lower-case method", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    ("space before the method", b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    ("space in the target", get(b"/a b"), [400]),
    ("space after the version", get(version=b"HTTP/1.1 "), [400]),
    ("NUL in the method", b"GE\0T / HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    ("NUL in the target", get(b"/\0"), [400]),
    ("control character in the target", get(b"/\x01"), [400]),
    ("DEL in the target", get(b"/\x7f"), [400]),
    ("UTF-8 in the target", get("/é".encode()), [400]),
    ("fragment", get(b"/a#b"), [400]),
    ("no target", b"GET HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    ("relative target", get(b"a/b"), [400]),
    ("star target", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    ("authority target", b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED, [400]),
    ("absolute target, other host", get(b"http://evil.test/"), [400]),
    ("absolute target, other port", get(b"http://localhost:1/"), [400]),
    ("absolute target, user", get(b"http://me@localhost/"), [400]),
    ("absolute target, other scheme", get(b"ftp://localhost/"), [400]),
    ("absolute target without Host", get(b"http://localhost/", b"", b"HTTP/1.0"), [400]),
    ("HTTP/0.9", b"GET /\r\n\r\n", [400]),
    ("HTTP/0.9, said", get(version=b"HTTP/0.9"), [400]),
    ("HTTP/1.2", get(version=b"HTTP/1.2"), [400]),
    ("HTTP/2.0", get(version=b"HTTP/2.0"), [400]),
    ("HTTP/2.7", get(version=b"HTTP/2.7"), [400]),
    ("HTTP/1.10", get(version=b"HTTP/1.10"), [400]),
    ("HTTP/1", get(version=b"HTTP/1"), [400]),
    ("http/1.1", get(version=b"http/1.1"), [400]),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    ("bare LF after the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n", [400]),
    ("bare CR after the request line", b"GET / HTTP/1.1\r" + HOST + b"\r\n", [400]),
    # Host.
    ("no Host", host(b""), [400]),
    ("two Hosts", host(HOST + b"Host: evil.test\r\n"), [400]),
    ("the same Host twice", host(HOST + HOST), [400]),
    ("two Hosts over HTTP/1.0", get(headers=HOST + HOST, version=b"HTTP/1.0"), [400]),
    ("empty Host", host(b"Host:\r\n"), [400]),
    ("two names in Host", host(b"Host: localhost, evil.test\r\n"), [400]),
    ("path in Host", host(b"Host: localhost/a?\r\n"), [400]),
    ("user in Host", host(b"Host: a@localhost\r\n"), [400]),
    ("port that is no number", host(b"Host: localhost:80x\r\n"), [400]),
    ("long port", host(b"Host: localhost:123456\r\n"), [400]),
    ("space in Host", host(b"Host: local host\r\n"), [400]),
    ("backslash in Host", host(b"Host: localhost\\.evil\r\n"), [400]),
    ("host with port", get(headers=b"Host: localhost:8000\r\n"), ["GET / "]),
    ("host in capitals", get(headers=b"HOST: LOCALHOST\r\n"), ["GET / "]),
    ("IPv4 host", get(headers=b"Host: 127.0.0.1:1\r\n"), ["GET / "]),
    ("IPv6 host", get(headers=b"Host: [::1]:8000\r\n"), ["GET / "]),
    ("other host", host(b"Host: evil.test\r\n"), [421]),
    ("other host over HTTP/1.0", get(headers=b"Host: evil.test\r\n", version=b"HTTP/1.0"), [421]),
    ("host below localhost", host(b"Host: localhost.evil.test\r\n"), [421]),
    ("host with a dot at its end", host(b"Host: localhost.\r\n"), [421]),
    ("host as a number", host(b"Host: 2130706433\r\n"), [421]),
    ("short IPv4 host", host(b"Host: 127.1\r\n"), [421]),
    ("wildcard host", host(b"Host: 0.0.0.0\r\n"), [421]),
    # Headers.
    ("bare LF after a header", get(headers=b"Host: localhost\n"), [400]),
    ("bare LF at the end", b"GET / HTTP/1.1\r\n" + HOST + b"\n" + SMUGGLED, [400]),
    ("bare CR in a value", header(b"X: a\rb\r\n"), [400]),
    ("obs-fold", header(b"X: a\r\n b\r\n"), [400]),
    ("obs-fold with a tab", header(b"X: a\r\n\tb\r\n"), [400]),
    ("fold before the first header", get(headers=b" X: a\r\n" + HOST), [400]),
    ("space before the colon", header(b"X : a\r\n"), [400]),
    ("tab before the colon", header(b"X\t: a\r\n"), [400]),
    ("space in a name", header(b"X Y: a\r\n"), [400]),
    ("no colon", header(b"X\r\n"), [400]),
    ("no name", header(b": a\r\n"), [400]),
    ("NUL in a value", header(b"X: a\0b\r\n"), [400]),
    ("NUL in a name", header(b"X\0: a\r\n"), [400]),
    ("control character in a value", header(b"X: \x01\r\n"), [400]),
    ("DEL in a value", header(b"X: \x7f\r\n"), [400]),
    ("UTF-8 in a name", header("é: a\r\n".encode()), [400]),
    ("parenthesis in a name", header(b"X(): a\r\n"), [400]),
    ("quote in a name", header(b'"X": a\r\n'), [400]),
    # Content-Length.
    ("two lengths", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello" + SMUGGLED), [400]),
    ("the same length twice", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello" + SMUGGLED), [400]),
    ("list of lengths", length(b" 5, 5"), [400]),
    ("negative length", length(b" -5"), [400]),
    ("length with a plus", length(b" +5"), [400]),
    ("length in hex", length(b" 0x5"), [400]),
    ("length with a point", length(b" 5.0"), [400]),
    ("length with an exponent", length(b" 5e0"), [400]),
    ("length with an underscore", length(b" 1_0"), [400]),
    ("length of two numbers", length(b" 5 5"), [400]),
    ("length in Arabic digits", length(" ٥".encode()), [400]),
    ("length that is a word", length(b" five"), [400]),
    ("empty length", length(b""), [400]),
    ("length of 65 bits", length(b" 36893488147419103237"), [400]),
    ("length of 2 GB", length(b" 2000000000", b""), [413]),
    ("length above the limit", length(b" 100001", b""), [413]),
    ("vertical tab before a length", length(b"\x0b5"), [400]),
    # Transfer-Encoding.
    ("length and coding", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), [400]),
    ("coding and length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + SMUGGLED), [400]),
    ("coding and length 0", post(b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", b"0\r\n\r\n" + SMUGGLED), [400]),
    ("coding over HTTP/1.0", b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    ("gzip, chunked", coding(b" gzip, chunked"), [400]),
    ("chunked, gzip", coding(b" chunked, gzip"), [400]),
    ("chunked, chunked", coding(b" chunked, chunked"), [400]),
    ("chunked twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED ), [400]),
    ("chunked, then identity", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n" + SMUGGLED), [400]),
    ("identity, then chunked", post(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), [400]),
    ("identity", coding(b" identity"), [400]),
    ("empty coding", coding(b""), [400]),
    ("xchunked", coding(b" xchunked"), [400]),
    ("chunkedx", coding(b" chunkedx"), [400]),
    ("chunked;q=1", coding(b" chunked;q=1"), [400]),
    ("quoted chunked", coding(b' "chunked"'), [400]),
    ("comma before chunked", coding(b" ,chunked"), [400]),
    ("chunked and a space", coding(b" chunked "), [400]),
    ("vertical tab before chunked", coding(b" \x0bchunked"), [400]),
    ("coding in a get", get(headers=HOST + b"Transfer-Encoding: gzip\r\n") + SMUGGLED, [400]),
    ("space before the colon of a coding", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + SMUGGLED), [400]),
    ("upgrade, length and coding", post(UPGRADE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", SMUGGLED), [400]),
    # Chunks.
    ("no chunk size", chunked(b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk size 0x5", chunked(b"0x5\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk size +5", chunked(b"+5\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk size -5", chunked(b"-5\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk size g", chunked(b"g\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk size and a space", chunked(b"5 \r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("space and chunk size", chunked(b" 5\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk size of 65 bits", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk size above the limit", chunked(b"ffffff\r\n" + b"x" * 100_001), [413]),
    ("bare LF after a chunk size", chunked(b"5\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("bare CR after a chunk size", chunked(b"5\rhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("bare LF in a chunk extension", chunked(b"5;a\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("bare CR in a chunk extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("NUL in a chunk extension", chunked(b"5;\0\r\nhello\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("bare LF after a chunk", chunked(b"5\r\nhello\n0\r\n\r\n" + SMUGGLED), [400]),
    ("nothing after a chunk", chunked(b"5\r\nhello0\r\n\r\n" + SMUGGLED), [400]),
    ("chunk longer than its size", chunked(b"5\r\nhello!\r\n0\r\n\r\n" + SMUGGLED), [400]),
    ("bare LF after the last chunk", chunked(b"5\r\nhello\r\n0\n\r\n" + SMUGGLED), [400]),
    ("bare LF after the body", chunked(b"5\r\nhello\r\n0\r\n\n" + SMUGGLED), [400]),
    ("trailer without a colon", chunked(b"0\r\nX\r\n\r\n" + SMUGGLED), [400]),
    ("folded trailer", chunked(b"0\r\nX: 1\r\n 2\r\n\r\n" + SMUGGLED), [400]),
    # After a refusal nothing is served; before it, everything.
    ("good, then bad", get(b"/1") + get(headers=b"") + SMUGGLED, ["GET /1 ", 400]),
    ("good, then garbage", get(b"/1") + b"\0\0\0\0", ["GET /1 ", 400]),
    ("two good, then bad", get(b"/1") + get(b"/2") + length(b" -1"), ["GET /1 ", "GET /2 ", 400]),
    ("good, then a bad chunk", get(b"/1") + chunked(b"x\r\n") + SMUGGLED, ["GET /1 ", 400]),
    ("close, then garbage", get(headers=HOST + b"Connection: close\r\n") + b"\0\0\0", ["GET / "]),
    ("error of the app, then good", get(b"/fault") + SMUGGLED, [500]),
]
# fmt: on


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    ("raw", "expected"), [row[1:] for row in FRAMING], ids=[row[0] for row in FRAMING]
)
def test_framing(
    client: Client, app: Echo, raw: bytes, expected: list[str | int], bytewise: bool
) -> None:
    """A request is served as sent or refused as a whole, however it is cut into packets."""
    if bytewise and len(raw) > 2_000:
        pytest.skip("long; cut by the network anyway")
    client.send(raw, bytewise)

    assert client.answers(len(expected)) == expected
    served = [answer for answer in expected if isinstance(answer, str)]
    assert [text for text in app.seen if "/fault" not in text] == served


# ---------------------------------------------------------------------------------------------
# What a refusal looks like.


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (get(headers=b"Host: evil.test\r\n"), 421, "host_not_allowed"),
        (length(b" 100001"), 413, "body_too_large"),
        (get(b"/" + b"a" * 1_024), 414, "url_too_long"),
        (get(headers=HOST + b"X: 1\r\n" * 20), 431, "headers_too_large"),
        (get(b"/fault"), 500, "internal_error"),
        (get(b"/exit"), 500, "internal_error"),
        (get(b"/silent"), 500, "internal_error"),
    ],
)
def test_refusal_is_json(client: Client, raw: bytes, status: int, code: str) -> None:
    """Every answer that the server gives by itself is JSON with code, message and request id."""
    client.send(raw)

    found, head, body = client.answer() or pytest.fail("no answer")
    error = json.loads(body)["error"]
    assert (found, error["code"]) == (status, code)
    assert re.fullmatch(r"[0-9a-f]{16}", error["request_id"])
    assert b"secret" not in body
    assert b"\r\ncontent-type: application/json\r\n" in head
    assert b"\r\nconnection: close\r\n" in head
    assert client.answer() is None


def test_refusal_is_logged_with_its_id(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The request id of a refusal leads to a line of the log."""
    caplog.set_level(logging.INFO, logger="salver.online")
    client.send(b"nonsense\r\n\r\n")

    answer = client.answer()
    assert answer is not None
    request_id = json.loads(answer[2])["error"]["request_id"]
    assert any(request_id in record.getMessage() for record in caplog.records)


def test_answers_name_no_server(client: Client) -> None:
    """An answer has a date, and no Server header."""
    client.send(get())

    answer = client.answer()
    assert answer is not None
    assert b"\r\ndate: " in answer[1]
    assert b"\r\nserver:" not in answer[1].lower()


def test_refusal_survives_a_client_that_goes_on_sending(client: Client) -> None:
    """A client that sends its whole body before it reads still gets the 413."""
    client.sock.sendall(post(b"Content-Length: 5000000\r\n", b"x" * 5_000_000))

    assert client.answers(1) == [413]


def test_failure_after_the_start_of_an_answer_cuts_it(client: Client) -> None:
    """An app that fails within its answer leaves it recognisably incomplete."""
    client.send(get(b"/cut"))

    with pytest.raises(AssertionError, match="within an answer"):
        client.answer()


# ---------------------------------------------------------------------------------------------
# Sizes.


def test_largest_request_is_served(client: Client, app: Echo) -> None:
    """URL, headers and body may be as large as the limits say."""
    url = b"/" + b"a" * 1_023
    headers = HOST + b"Content-Length: 100000\r\n" + b"X: 1\r\n" * 18
    client.send(b"POST " + url + b" HTTP/1.1\r\n" + headers + b"\r\n" + b"x" * 100_000)

    assert client.answers(1) == [f"POST {url.decode()} {'x' * 100_000}"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get(b"/" + b"a" * 1_024), 414),
        (b"GET /" + b"a" * 300_000, 414),
        (get(headers=HOST + b"X: 1\r\n" * 20), 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 50, 431),
        (get(headers=HOST + b"X: " + b"a" * 8_200 + b"\r\n"), 431),
        (get(headers=HOST + (b"X: " + b"a" * 800 + b"\r\n") * 11), 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 1_000_000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X" * 1_000_000, 431),
        (length(b" 100001"), 413),
        (chunked(b"186a1\r\n" + b"x" * 100_001), 413),
        (chunked(b"1000\r\n" + b"x" * 4_096 + b"\r\n") + (b"1000\r\n" + b"x" * 4_096 + b"\r\n") * 30, 413),
        (chunked(b"5;" + b"a" * 300_000), 413),
        (chunked(b"1;" + b"a" * 100 + b"\r\nx\r\n") + (b"1;" + b"a" * 100 + b"\r\nx\r\n") * 3_000, 413),
        (chunked(b"0\r\n" + b"X: 1\r\n" * 50_000), 413),
        (chunked(b"0" * 300_000), 413),
    ],
    ids=[
        "url", "endless url", "21 headers", "endless headers", "long header", "long headers",
        "endless value", "endless name", "length", "chunk", "many chunks", "endless extension",
        "many extensions", "endless trailers", "endless chunk size",
    ],
)  # fmt: skip
def test_too_much_is_refused(client: Client, app: Echo, raw: bytes, status: int) -> None:
    """What exceeds a limit is refused while it arrives, and never served."""
    client.send(raw)

    assert client.answers(1) == [status]
    assert app.seen == []


def test_tiny_chunks_are_served_in_bounded_time(client: Client) -> None:
    """A body of very many one-byte chunks costs less than a second."""
    start = time.monotonic()
    client.send(chunked(b"1\r\nx\r\n" * 26_000 + b"0\r\n\r\n"))

    assert client.answers(1) == ["POST / " + "x" * 26_000]
    assert time.monotonic() - start < 1.0


def test_body_is_refused_before_much_of_it_is_read(shared: tuple[Running, Echo]) -> None:
    """An endless chunked body is refused within the limit and 64 KiB."""
    server, app = shared
    app.disconnects = 0
    sent = 0
    with Client(server.port) as client:
        client.send(chunked(b""))
        client.sock.settimeout(0.02)
        while not client.buffer:
            client.send(b"800\r\n" + b"x" * 2_048 + b"\r\n")
            sent += 2_048
            with suppress(TimeoutError):
                client._more()
    assert sent <= SMALL.max_body_bytes + 65_536
    wait_until(lambda: app.disconnects == 1)


def test_refused_connection_is_released(shared: tuple[Running, Echo]) -> None:
    """A refusal in the midst of a burst does not leave the connection open for ever."""
    server, _ = shared
    with Client(server.port) as client:
        client.send(chunked(b"30000\r\n" + b"x" * 0x30000))
        assert client.answers(1) == [413]
    wait_until(lambda: open_connections(server) == 0, 1.0)


def test_waiting_requests_are_bounded(client: Client, app: Echo) -> None:
    """A client that pipelines without end gets its first answers, then a refusal."""
    client.send(get() * 200)

    answers = client.answers(200)
    assert answers[-1] == 400
    assert answers[:-1] == ["GET / "] * len(app.seen)
    assert len(app.seen) < 100


def test_connections_are_bounded() -> None:
    """A connection above the limit is told so and closed; it works again once one has gone."""
    limits = HttpLimits(max_connections=2)
    with running(Echo(), limits=limits) as server:
        with Client(server.port) as one, Client(server.port) as two, Client(server.port) as three:
            one.send(get())
            two.send(get())
            assert one.answer() is not None
            assert two.answer() is not None
            assert three.answers(1) == [503]
        wait_until(lambda: ask(server.port) == "GET / ")


def ask(port: int) -> str | int:
    with Client(port) as client:
        client.send(get())
        return client.answers(1)[0]


# ---------------------------------------------------------------------------------------------
# Meaning.


def test_trailers_are_not_headers(client: Client, app: Echo) -> None:
    """Trailers never reach the headers that the app reads."""
    client.send(chunked(b"0\r\nAuthorization: forged\r\n\r\n"))

    assert client.answers(1) == ["POST / "]
    assert b"authorization" not in app.headers


def test_expect_100_continue(client: Client) -> None:
    """A client that asks first is told to go on, then answered."""
    client.send(post(b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
    go_on = client.answer()
    assert go_on is not None
    assert go_on[0] == 100
    client.send(b"hello")

    assert client.answers(1) == ["POST / hello"]


def test_expect_100_continue_with_a_body_too_large(client: Client) -> None:
    """A client that asks first is refused before it sends."""
    client.send(post(b"Expect: 100-continue\r\nContent-Length: 100001\r\n"))

    assert client.answers(1) == [413]


def test_unread_expected_body_ends_the_connection(client: Client, app: Echo) -> None:
    """Nothing is read as a request where a body was announced and not asked for."""
    head = (
        b"POST /early HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 43\r\n\r\n"
    )
    client.send(head)
    early = client.answer()
    assert early is not None
    assert early[0] == 401
    client.send(SMUGGLED * 2)

    assert client.answer() is None
    assert app.seen == []


def test_early_answer_keeps_the_connection(client: Client) -> None:
    """A body that the app did not read is thrown away; the next request is served."""
    client.send(b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n")
    early = client.answer()
    assert early is not None
    assert early[0] == 401
    client.send(b"hello" + NEXT)

    assert client.answers(1) == ["GET /next "]


def test_upgrade_with_a_body_in_another_packet(client: Client, app: Echo) -> None:
    """A body that follows an upgrade offer is a body, even if it looks like a request."""
    client.send(post(UPGRADE + b"Content-Length: 43\r\n"))
    time.sleep(0.05)
    client.send(SMUGGLED)

    assert client.answers(1) == ["POST / " + SMUGGLED.decode()]
    assert len(app.seen) == 1


def test_the_app_does_not_see_a_request_refused_with_its_body(
    shared: tuple[Running, Echo], client: Client
) -> None:
    """A broken chunk in the packet of the head keeps the request from the app altogether."""
    server, app = shared
    app.disconnects = 0
    client.send(chunked(b"zz\r\n"))

    assert client.answers(1) == [400]
    assert ask(server.port) == "GET / "  # by now the app would have seen the other one
    assert (app.seen, app.disconnects) == (["GET / "], 0)


def test_the_app_learns_that_its_client_left(shared: tuple[Running, Echo]) -> None:
    """An app that listens is told when the client closes."""
    server, app = shared
    app.disconnects = 0
    with Client(server.port) as client:
        client.send(get(b"/leave"))
        wait_until(lambda: "GET /leave " in app.seen)
    wait_until(lambda: app.disconnects == 1)


def test_the_app_learns_that_a_pipelining_client_left(shared: tuple[Running, Echo]) -> None:
    """The request that is being answered is told, not only the one that arrived last."""
    server, app = shared
    app.seen.clear()
    app.disconnects = 0
    with Client(server.port) as client:
        client.send(get(b"/leave") + get(b"/never"))
        wait_until(lambda: "GET /leave " in app.seen)
    wait_until(lambda: app.disconnects == 1)
    assert app.seen == ["GET /leave "]


@pytest.mark.parametrize(
    ("options", "host_header", "expected"),
    [
        ({}, b"evil.test", 421),
        ({"host": "localhost"}, b"evil.test", 421),
        ({"host": "127.0.0.2"}, b"evil.test", 421),
        ({"host": "0.0.0.0"}, b"evil.test", "GET / "),
        ({"limits": HttpLimits(allowed_hosts=("*",))}, b"evil.test", "GET / "),
        ({"limits": HttpLimits(allowed_hosts=("*",))}, b"evil.test/a", 400),
        ({"limits": HttpLimits(allowed_hosts=("API.test", "[::2]"))}, b"api.test:80", "GET / "),
        ({"limits": HttpLimits(allowed_hosts=("API.test", "[::2]"))}, b"[::2]", "GET / "),
        ({"limits": HttpLimits(allowed_hosts=("API.test",))}, b"localhost", 421),
    ],
)
def test_allowed_hosts(options: Any, host_header: bytes, expected: str | int) -> None:
    """On loopback only loopback names are served, elsewhere any, unless names are given."""
    with (
        running(Echo(), **options) as server,
        socket.create_connection((options.get("host", "127.0.0.1"), server.port)) as sock,
    ):
        client = Client.__new__(Client)
        client.sock, client.buffer = sock, b""
        client.send(get(headers=b"Host: " + host_header + b"\r\n"))
        assert client.answers(1) == [expected]


# ---------------------------------------------------------------------------------------------
# Slow clients.


@pytest.fixture(scope="module")
def quick() -> Iterator[tuple[Running, Echo]]:
    app = Echo()
    with running(app, limits=QUICK) as server:
        yield server, app


def slowly(client: Client, data: bytes, pause_s: float = 0.05) -> None:
    """Sends a byte now and then until the server has had enough."""
    client.sock.settimeout(pause_s)
    for i in range(len(data)):
        client.send(data[i : i + 1])
        try:
            client._more()
            break
        except TimeoutError:
            continue
    client.sock.settimeout(5)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"GET / HT", b""),
        (b"GET / HTTP/1.1\r\n" + HOST, b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        (get() + b"GET / HTTP/1.1\r\n", b""),
        (post(b"Content-Length: 1000\r\n"), b""),
        (post(b"Content-Length: 1000\r\n"), b"x" * 40),
        (post(b"Content-Length: 100000\r\n", b"x" * 50_000), b""),
        (chunked(b"5\r\nhe"), b""),
        (chunked(b"5;"), b"a" * 40),
        (chunked(b"0\r\n"), b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ],
    ids=[
        "half a head", "dripping head", "half a second head", "no body", "dripping body",
        "stalled body", "half a chunk", "dripping extension", "dripping trailer",
    ],
)  # fmt: skip
def test_slow_sender_is_timed_out(quick: tuple[Running, Echo], first: bytes, then: bytes) -> None:
    """A client that does not finish its request gets 408 in time, and the app nothing."""
    server, app = quick
    app.seen.clear()
    with Client(server.port) as client:
        start = time.monotonic()
        client.send(first)
        slowly(client, then)
        answers = client.answers(10)
        assert answers[-1] == 408
        assert 0.3 < time.monotonic() - start < 1.5
    assert app.seen == answers[:-1]


@pytest.mark.parametrize("first", [b"", b"\r\n", get()], ids=["fresh", "empty line", "used"])
def test_idle_connection_is_closed(quick: tuple[Running, Echo], first: bytes) -> None:
    """A connection without a request is closed, without an answer to nothing."""
    server, _ = quick
    with Client(server.port) as client:
        client.send(first)
        if first == get():
            assert client.answer() is not None
        assert 0.2 < client.closed_after() < 1.2
        assert client.buffer == b""


def test_empty_lines_do_not_keep_a_connection_alive(quick: tuple[Running, Echo]) -> None:
    """A client cannot hold a connection by sending what is no request."""
    server, _ = quick
    with Client(server.port) as client:
        start = time.monotonic()
        slowly(client, b"\r\n" * 40)
        assert client.closed_after() < 1.0
        assert time.monotonic() - start < 1.5


def test_slow_answer_does_not_count_as_idle(quick: tuple[Running, Echo]) -> None:
    """An app may take longer than any deadline of the client; idle time starts at its answer."""
    server, app = quick
    app.release.clear()
    with Client(server.port) as client:
        client.send(get(b"/hold"))
        time.sleep(0.9)
        app.release.set()
        assert client.answer() is not None
        time.sleep(0.15)
        client.send(NEXT)
        assert client.answers(1) == ["GET /next "]


def test_steady_slow_body_is_served(quick: tuple[Running, Echo]) -> None:
    """A body above the minimum rate may take longer than the grace."""
    server, _ = quick
    with Client(server.port) as client:
        client.send(post(b"Content-Length: 6000\r\n"))
        for _ in range(20):
            time.sleep(0.05)
            client.send(b"x" * 300)
        assert client.answers(1) == ["POST / " + "x" * 6_000]


@pytest.mark.parametrize(
    ("line", "first"),
    [(b"", 200_000), (b"Expect: 100-continue\r\n", 0)],
    ids=["buffers full", "told to wait"],
)
def test_body_that_the_app_does_not_read_is_not_slow(
    quick: tuple[Running, Echo], line: bytes, first: int
) -> None:
    """A client that is held back by the server is not timed out."""
    server, app = quick
    app.release.clear()
    with Client(server.port) as client:
        head = b"POST /late HTTP/1.1\r\n" + HOST + line + b"Content-Length: 300000\r\n\r\n"
        client.send(head + b"x" * first)
        time.sleep(0.9)
        app.release.set()
        client.send(b"x" * (300_000 - first))
        if line:
            assert client.answer() == (100, b"HTTP/1.1 100 Continue", b"")
        assert client.answers(1) == ["POST /late " + "x" * 300_000]


@pytest.mark.parametrize("drip", [False, True], ids=["stopped", "dripping"])
def test_slow_reader_is_cut_off(quick: tuple[Running, Echo], drip: bool) -> None:
    """A client that does not take its answer loses the connection."""
    server, _ = quick
    with Client(server.port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.send(get(b"/big"))
        wait_until(lambda: open_connections(server) == 1)
        start = time.monotonic()
        while open_connections(server):
            if drip:
                client.sock.recv(10)
            time.sleep(0.02)
            assert time.monotonic() - start < 2


@pytest.mark.parametrize("path", [b"/big", b"/stream"])
def test_slow_but_steady_reader_is_served(quick: tuple[Running, Echo], path: bytes) -> None:
    """A client that takes its answer at a fair rate gets all of it."""
    server, _ = quick
    with Client(server.port) as client:
        client.send(get(path))
        taken = 0
        while taken < BIG:
            data = client.sock.recv(1_000_000)
            assert data
            taken += len(data)
            time.sleep(0.02)


def test_streamed_answer_makes_progress_whenever_it_goes_on() -> None:
    """An answer in small pieces is never that of a slow reader while pieces are taken."""
    limits = HttpLimits(write_stall_s=0.2, body_min_bytes_per_s=10_000_000)
    with running(Echo(), limits=limits) as server, Client(server.port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.send(get(b"/stream"))
        taken = 0
        while taken < BIG:
            data = client.sock.recv(1_000_000)
            assert data
            taken += len(data)
            time.sleep(0.001)


def test_good_clients_are_served_among_idle_ones(quick: tuple[Running, Echo]) -> None:
    """Hundreds of silent connections neither delay a request nor stay."""
    server, _ = quick
    silent = [Client(server.port) for _ in range(300)]
    start = time.monotonic()
    assert ask(server.port) == "GET / "
    assert time.monotonic() - start < 0.3
    wait_until(lambda: open_connections(server) == 0)
    for client in silent:
        client.sock.close()


def open_connections(running_server: Running) -> int:
    return len(running_server.server._state.connections)


# ---------------------------------------------------------------------------------------------
# Starting and stopping.


def test_busy_port_is_an_error() -> None:
    """A port that is taken gives an OSError that names it."""
    with (
        running(Echo()) as server,
        pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1 port {server.port}"),
    ):
        Running(Echo(), port=server.port)


def test_given_socket_is_used() -> None:
    """A socket that is bound already is listened on."""
    sock = socket.create_server(("127.0.0.1", 0))
    with running(Echo(), sock=sock) as server:
        assert ask(sock.getsockname()[1]) == "GET / "
        assert server.port == sock.getsockname()[1]


def test_app_that_fails_to_start_is_an_error() -> None:
    """A failed lifespan is an exception for the caller, and frees the port."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(ConfigError, match="failed to start"):
        Running(app, port=port)
    socket.create_server(("127.0.0.1", port)).close()


def test_stop_answers_what_has_begun() -> None:
    """Draining closes idle connections, answers open requests and says that it closes."""
    app = Echo()
    server = Running(app)
    with Client(server.port) as idle, Client(server.port) as busy, Client(server.port) as late:
        idle.send(get())
        assert idle.answer() is not None
        busy.send(get(b"/hold"))
        late.send(b"GET /late HTTP/1.1\r\n")
        wait_until(lambda: app.seen == ["GET / ", "GET /hold "])
        stopping = asyncio.run_coroutine_threadsafe(server.server.stop(5.0), server.loop)
        assert idle.answer() is None
        with pytest.raises(ConnectionRefusedError):
            Client(server.port)
        late.send(HOST + b"\r\n")
        app.release.set()
        for client, text in ((busy, b"GET /hold "), (late, b"GET /late ")):
            status, head, body = client.answer() or pytest.fail("no answer")
            assert (status, body) == (200, text)
            assert b"connection: close" in head
            assert client.answer() is None
        stopping.result(2)
    server.end_loop()


def test_stop_ends_in_time() -> None:
    """A request that outlasts the drain is answered 503."""
    app = Echo()
    server = Running(app)
    with Client(server.port) as client:
        client.send(get(b"/hold"))
        wait_until(lambda: app.seen == ["GET /hold "])
        start = time.monotonic()
        server.call(server.server.stop(0.2))
        assert time.monotonic() - start < 1.0
        assert client.answers(1) == [503]
    server.end_loop()


def test_serve_ends_when_asked() -> None:
    """`serve()` runs until `should_exit` is set, and installs no signal handler."""

    async def main() -> str | int:
        before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
        server = make_server(Echo(), port=0)
        serving = asyncio.create_task(server.serve())
        while True:
            await asyncio.sleep(0.01)
            try:
                answer = await asyncio.to_thread(ask, server.port)
                break
            except (ConfigError, OSError):
                continue
        assert {name: signal.getsignal(name) for name in before} == before
        server.should_exit = True
        await asyncio.wait_for(serving, 2)
        return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == "GET / "
