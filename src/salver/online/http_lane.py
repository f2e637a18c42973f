"""A request that is answered without ASGI: its body in one piece, its answer in one write.

The protocol gives a request to a lane once all of it is there, and only if the lane takes its
head; whatever is unusual goes through the ASGI app, which gives the same answers. This module
does not know how bytes are read, nor what an answer says.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}


_MAX_KNOWN, _MAX_KNOWN_BYTES = 1024, 1024


class Lane(Protocol):
    """Answers the POST requests of one path."""

    def takes(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these headers may be answered here; names in lower case."""
        ...

    def begin(self, request: LaneRequest) -> None:
        """Begins to answer; must not raise, and must end in `send` or `give_up`."""
        ...


class KnownHead(NamedTuple):
    """What the head of a request means: it means the same whenever the same bytes come again."""

    lane: Lane
    headers: Mapping[bytes, bytes]
    body_bytes: int


@dataclass(slots=True)
class Lanes:
    """All lanes of one server.

    Attributes:
        by_target: The lane of a request target, as it stands in the request line.
        common: Header lines of every answer, as they are sent.
        known: Heads that were read and accepted before; most clients send few different ones.
    """

    by_target: Mapping[bytes, Lane]
    common: bytes = b""
    known: dict[bytes, KnownHead] = field(default_factory=dict)

    def recall(self, data: bytes) -> tuple[KnownHead | None, bytes]:
        """The head and the body in `data`, if it is one whole message with a known head."""
        end = data.find(b"\r\n\r\n") + 4
        known = self.known.get(data[:end])
        if known is None or len(data) - end != known.body_bytes:
            return None, b""
        return known, data[end:]

    def remember(self, data: bytes, request: Any) -> None:
        """Keeps the head of the message in `data` if it may come again.

        Args:
            data: One whole message.
            request: What was made of it; one of ASGI is not kept, nor one with an id of its own.
        """
        if not isinstance(request, LaneRequest) or not request.keep_alive:
            return
        length = request.headers.get(b"content-length")
        end = data.find(b"\r\n\r\n") + 4
        if (
            length is None
            or int(length) != len(data) - end
            or end > _MAX_KNOWN_BYTES
            or b"x-request-id" in request.headers
        ):
            return
        if len(self.known) >= _MAX_KNOWN:
            self.known.clear()
        self.known[data[:end]] = KnownHead(request.lane, request.headers, int(length))


class Connection(Protocol):
    """The protocol, as a request on a lane sees it."""

    def send_answer(self, request: LaneRequest, answer: bytes) -> None:
        """Writes a whole answer, to be followed by that to the next request."""
        ...

    def end_unanswered(self, request: LaneRequest) -> None:
        """Ends the connection: the server stops before there is an answer."""
        ...


class LaneRequest:
    """One request on a lane; to the protocol it looks like a cycle of ASGI.

    Attributes:
        headers: Names in lower case; of a repeated one, the last.
        parts: The body as it came.
        future: What the client waits for.
        keep_alive: False to close the connection after the answer.
        disconnected: True when there is nobody to answer.
        response_complete: True when the answer was written.
    """

    __slots__ = (
        "_connection",
        "_lanes",
        "disconnected",
        "future",
        "headers",
        "keep_alive",
        "lane",
        "parts",
        "response_complete",
    )

    waiting_for_100_continue = False

    def __init__(
        self,
        connection: Connection,
        lanes: Lanes,
        lane: Lane,
        headers: Mapping[bytes, bytes],
        keep_alive: bool,
    ) -> None:
        self.lane = lane
        self.headers = headers
        self.parts: list[bytes] = []
        self.future: asyncio.Future[Any] | None = None
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self._connection = connection
        self._lanes = lanes

    @property
    def response_started(self) -> bool:
        """An answer begins and is complete in the same write."""
        return self.response_complete

    def abandon(self) -> None:
        """Says that the client has gone, so that nothing is computed for it any more."""
        self.disconnected = True
        self.cancel()

    def cancel(self) -> None:
        """Ends the wait; the lane then calls `give_up`."""
        if self.future is not None:
            self.future.cancel()

    def send(self, status: int, head: bytes, body: bytes) -> None:
        """Answers, unless the client has gone.

        Args:
            status: Of HTTP.
            head: Header lines, as they are sent, without the content length.
            body: Of the answer.
        """
        if self.disconnected or self.response_complete:
            return
        self.response_complete = True
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        self._connection.send_answer(
            self,
            b"%b%b%b%bcontent-length: %d\r\n\r\n%b"
            % (_STATUS_LINES[status], self._lanes.common, head, closing, len(body), body),
        )

    def give_up(self) -> None:
        """Says that there will be no answer."""
        if not self.disconnected and not self.response_complete:
            self.disconnected = True
            self._connection.end_unanswered(self)
