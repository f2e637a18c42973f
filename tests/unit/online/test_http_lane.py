"""Requests that are answered without ASGI."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from salver.online.http_lane import KnownHead, LaneRequest, Lanes


class Wire:
    """What a connection would have done."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = 0

    def send_answer(self, request: LaneRequest, answer: bytes) -> None:
        self.sent.append(answer)

    def end_unanswered(self, request: LaneRequest) -> None:
        self.ended += 1


class Lane:
    def takes(self, headers: Mapping[bytes, bytes]) -> bool:
        return True

    def begin(self, request: LaneRequest) -> None:
        request.send(200, b"", b"ok")


def request_on(wire: Wire, lanes: Lanes, **headers: bytes) -> LaneRequest:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return LaneRequest(wire, lanes, Lane(), named, keep_alive=True)


def lanes() -> Lanes:
    return Lanes({b"/predict/": Lane()}, b"date: now\r\n")


MESSAGE = b"POST /predict/ HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"


def test_an_answer_is_written_once_and_whole() -> None:
    """Status, common headers, own headers, length and body leave in one write."""
    wire = Wire()
    request = request_on(wire, lanes())
    request.send(200, b"x: y\r\n", b"{}")
    request.send(500, b"", b"late")
    (answer,) = wire.sent
    assert answer == b"HTTP/1.1 200 OK\r\ndate: now\r\nx: y\r\ncontent-length: 2\r\n\r\n{}"


def test_a_connection_that_ends_says_so() -> None:
    """Without keep-alive the answer tells the client that the connection closes."""
    wire = Wire()
    request = request_on(wire, lanes())
    request.keep_alive = False
    request.send(200, b"", b"")
    assert b"connection: close\r\n" in wire.sent[0]


def test_nobody_is_answered_who_has_left() -> None:
    """Neither an answer nor an end is sent to a client that has gone."""
    wire = Wire()
    request = request_on(wire, lanes())
    request.abandon()
    request.send(200, b"", b"{}")
    request.give_up()
    assert (wire.sent, wire.ended) == ([], 0)


def test_a_request_that_is_given_up_ends_its_connection_once() -> None:
    """The connection hears once that there will be no answer."""
    wire = Wire()
    request = request_on(wire, lanes())
    request.give_up()
    request.give_up()
    assert wire.ended == 1


def test_a_head_that_was_accepted_is_known_again() -> None:
    """The very same bytes mean the same; the body is what follows them."""
    known = lanes()
    request = request_on(Wire(), known, content_length=b"2")
    assert known.recall(MESSAGE) == (None, b"")
    known.remember(MESSAGE, request)
    head, body = known.recall(MESSAGE[:-2] + b"[]")
    assert head == KnownHead(request.lane, request.headers, 2)
    assert body == b"[]"


@pytest.mark.parametrize(
    "data",
    [
        MESSAGE[:-1],
        MESSAGE + b"x",
        MESSAGE + MESSAGE,
        MESSAGE.replace(b"host: a", b"host: b"),
        MESSAGE.replace(b"\r\n\r\n", b"\r\n"),
        b"\r\n" + MESSAGE,
        b"",
    ],
)
def test_what_is_not_one_whole_message_with_the_same_head_is_not_known(data: bytes) -> None:
    """A part, two messages, another head: all are left to the parser."""
    known = lanes()
    known.remember(MESSAGE, request_on(Wire(), known, content_length=b"2"))
    assert known.recall(data) == (None, b"")


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (MESSAGE, {}),
        (MESSAGE, {"content_length": b"3"}),
        (MESSAGE, {"content_length": b"2", "x_request_id": b"a"}),
        (
            MESSAGE.replace(b"host: a", b"host: a\r\nx: " + b"y" * 1024),
            {"content_length": b"2"},
        ),
    ],
    ids=["chunked", "two messages", "an id of its own", "long"],
)
def test_a_head_that_will_not_come_again_is_not_kept(
    data: bytes, headers: dict[str, bytes]
) -> None:
    """Nor is one that does not tell where its message ends, or that is long."""
    known = lanes()
    known.remember(data, request_on(Wire(), known, **headers))
    assert known.known == {}


def test_the_number_of_known_heads_is_bounded() -> None:
    """Clients that vary their heads cannot fill the memory."""
    known = lanes()
    request = request_on(Wire(), known, content_length=b"2")
    for i in range(3000):
        known.remember(MESSAGE.replace(b"host: a", b"host: %d" % i), request)
    assert 0 < len(known.known) <= 1024
