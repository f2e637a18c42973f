"""One HTTP connection: uvicorn's httptools protocol with limits, deadlines and one last word.

uvicorn brings the parser, flow control and the ASGI cycle of a request. This subclass refuses what
is ambiguous, too big or too slow with one answer after the answers that are due, and then reads no
further.

This module does not know listening, signals, TLS, or what the app answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from salver.online import http_rules as rules
from salver.online.http_deadlines import BODY, HEAD, IDLE, REFUSED, Deadlines
from salver.online.http_lane import Lane, LaneRequest, Lanes
from salver.online.http_rules import Refused
from salver.online.http_scope import scope_of

_log = logging.getLogger(__name__)

_SLICE_BYTES = 65_536  # parsed at a time, so that no limit is overrun by more
_MAX_PIPELINED = 64  # requests waiting behind the one that is being answered


class HttpProtocol(HttpToolsProtocol):
    """One connection; see the module."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        limits: rules.HttpLimits,
        hosts: rules.Hosts,
        lanes: Lanes,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.limits = limits
        self.hosts = hosts
        self._lanes = lanes
        self._slice_bytes = min(_SLICE_BYTES, limits.max_header_bytes)
        self._phase = IDLE
        self._messages = 0  # begun on this connection
        self._split_head = 0  # the latest message whose head came in several slices
        self._framing: dict[bytes, bytes] = {}
        self._wire_bytes = 0  # received in the present phase, without the slice it began in
        self._body_bytes = 0
        self._current: RequestResponseCycle | LaneRequest | None = None  # what is being read
        self._active: RequestResponseCycle | LaneRequest | None = None  # what is being answered
        self._last_word: bytes | None = None  # a refusal that waits for the answers before it
        self._draining = False
        self._deadlines = Deadlines(limits)

    # Called by the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.write(self._render(rules.BUSY))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        waiting = [cycle for cycle, _ in self.pipeline]
        for cycle in (self._active, *waiting):
            if cycle is not None and not cycle.response_complete:
                _abandon(cycle)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase == REFUSED or self._answer_known(data):
            return
        if len(data) > self._slice_bytes:
            for start in range(0, len(data), self._slice_bytes):
                self.data_received(data[start : start + self._slice_bytes])
            return
        message, phase = self._messages, self._phase
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._ignore_upgrade(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            self._refuse(_reason(exc))
        else:
            if self._phase != IDLE:
                within = message == self._messages and phase == self._phase
                self._check_unfinished(len(data) if within else 0)
            elif phase == IDLE and self._messages == message + 1:
                self._lanes.remember(data, self._current)

    def _answer_known(self, data: bytes) -> bool:
        """Puts a request on its lane whose very head, byte by byte, was accepted before."""
        if self._phase != IDLE or self._active is not None or self._draining:
            return False
        known, body = self._lanes.recall(data)
        if known is None:
            return False
        self._messages += 1
        request = LaneRequest(self, self._lanes, known.lane, known.headers, keep_alive=True)
        request.parts.append(body)
        self._current = self._active = request
        known.lane.begin(request)
        return True

    def resume_writing(self) -> None:
        self._deadlines.reader_moved()
        super().resume_writing()

    # Called by the parser, which stops at the first exception.

    def on_message_begin(self) -> None:
        self._messages += 1
        self._phase = HEAD
        self._wire_bytes = 0
        self.url = b""
        self.headers = []
        self._framing = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in rules.FRAMING:
            framing = self._framing
            framing[name] = framing[name] + b"," + value if name in framing else value
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise rules.bad_request("CONNECT is for proxies; ask the server that is meant.")
            return  # _ignore_upgrade comes here again
        version = parser.get_http_version()
        self._check_head(version)
        self._phase = BODY
        self._wire_bytes = self._body_bytes = 0
        lane = self._lanes.by_target.get(self.url)
        if lane is None or not self._start_on(lane, version):
            self._start_cycle(version)
        self.headers = []  # takes the trailers, which nobody must find among the headers

    def _start_on(self, lane: Lane, version: str) -> bool:
        """Whether the request goes on a lane: what is unusual in any way does not."""
        if (
            self._active is not None
            or self.parser.get_method() != b"POST"
            or version != "1.1"
            or b"expect" in self._framing
        ):
            return False
        headers = dict(self.headers)
        if not lane.takes(headers):
            return False
        keep_alive = self.parser.should_keep_alive() and not self._draining
        self._current = self._active = LaneRequest(self, self._lanes, lane, headers, keep_alive)
        return True

    def _start_cycle(self, version: str) -> None:
        parser = self.parser
        expect = self._framing.get(b"expect")
        self.cycle = self._current = cycle = RequestResponseCycle(
            scope=scope_of(self, version),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=(
                expect is not None and version == "1.1" and expect.lower() == b"100-continue"
            ),
            keep_alive=version == "1.1" and parser.should_keep_alive() and not self._draining,
            on_response=self.on_response_complete,
        )
        if self._active is None:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self.limits.max_body_bytes:
            raise rules.body_too_large("is longer", self.limits.max_body_bytes)
        cycle = self._current
        if type(cycle) is LaneRequest:
            cycle.parts.append(body)
        elif not self.cycle.response_complete:
            self.cycle.body += body
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._phase == HEAD:
            return  # the parser skips the body of a request that offers an upgrade
        self._phase = IDLE
        cycle = self._current
        if type(cycle) is LaneRequest:
            cycle.lane.begin(cycle)
        elif not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _check_head(self, version: str) -> None:
        if version not in ("1.1", "1.0"):
            raise rules.bad_request(f"HTTP/{version} is not spoken here; use HTTP/1.1.")
        limits = self.limits
        if len(self.url) > limits.max_url_bytes:
            raise rules.url_too_long(limits)
        # A head that came in one slice cannot be too long.
        if len(self.headers) > limits.max_headers or (
            self._split_head == self._messages and self._head_bytes() > limits.max_header_bytes
        ):
            raise rules.headers_too_large(limits)
        rules.check_framing(version, self._framing, self.hosts, limits.max_body_bytes)
        if not self.url.startswith(b"/") or b"#" in self.url:
            self.url = rules.origin_form(self.url, self._framing.get(b"host"))
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise rules.bad_request(
                f"More than {_MAX_PIPELINED} requests wait on this connection; await answers first."
            )

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _check_unfinished(self, new_bytes: int) -> None:
        """Bounds what a message may bring before its next part is complete."""
        limits = self.limits
        self._wire_bytes += new_bytes
        if self._phase == HEAD:
            self._split_head = self._messages
            if len(self.url) > limits.max_url_bytes:
                self._refuse(rules.url_too_long(limits))
            elif (
                self._wire_bytes > limits.max_header_bytes or len(self.headers) > limits.max_headers
            ):
                self._refuse(rules.headers_too_large(limits))
        elif self._phase == BODY and self._wire_bytes > limits.max_body_bytes + _SLICE_BYTES:
            # Few bytes in many chunks, long chunk extensions, or endless trailers.
            self._refuse(rules.body_too_large("is longer on the wire", limits.max_body_bytes))

    # Requests and answers.

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Reads the head again without the offer, then what followed it.

        The parser takes all that follows an offer for another protocol: the body would be lost, or
        read as the next request. Java's HttpClient offers h2c with every request.
        """
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._phase = IDLE
        self.data_received(b"".join((*head, b"\r\n", rest)))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        self._active = cycle
        task = self.loop.create_task(self._run(cycle, app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _run(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        if cycle.disconnected:  # refused in the same breath
            return
        failure = rules.INTERNAL
        try:
            await app(cycle.scope, cycle.receive, cycle.send)
        except asyncio.CancelledError:
            failure = rules.SHUTTING_DOWN
        except (Exception, SystemExit):  # noqa: BLE001 - sys.exit() in a route ends no server
            _log.exception("The app failed")
        if not cycle.response_complete and not cycle.disconnected:
            cycle.disconnected = True
            self._active = None
            self._end(failure, answerable=not cycle.response_started)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._active = None
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_word is not None:
            self._say_last_word()
        elif self._phase == BODY and b"expect" in self._framing and not self._body_bytes:
            # The client may send the body or skip it: nobody knows where its next request begins.
            self.transport.close()

    # Called by a request on a lane.

    def send_answer(self, request: LaneRequest, answer: bytes) -> None:
        self.transport.write(answer)
        if not request.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def end_unanswered(self, request: LaneRequest) -> None:
        self._active = None
        self._end(rules.SHUTTING_DOWN, answerable=True)

    def _refuse(self, refused: Refused) -> None:
        """Ends the connection because of the message that is being read."""
        cycle = self._current
        answerable = True
        if self._phase == BODY and cycle is not None:  # the app may know of it already
            answerable = not cycle.response_started
            _abandon(cycle)
            if cycle is self._active:
                self._active = None
            elif self.pipeline:
                self.pipeline.popleft()
        self._end(refused, answerable)

    def _end(self, refused: Refused, answerable: bool) -> None:
        self._phase = REFUSED
        if not answerable:
            self.transport.close()
            return
        self._last_word = self._render(refused)
        if self._active is None:
            self._say_last_word()

    def _say_last_word(self) -> None:
        if self._last_word is not None and not self.transport.is_closing():
            self.flow.resume_reading()  # to see the client leave
            self.transport.write(self._last_word)
            with contextlib.suppress(OSError):  # it has left
                self.transport.write_eof()
        self._last_word = None

    def _render(self, refused: Refused) -> bytes:
        request_id = secrets.token_hex(8)
        _log.info("Answered %d %s (request %s)", refused.status, refused.code, request_id)
        return refused.render(request_id, self.server_state.default_headers)

    # Called by the server.

    def shutdown(self) -> None:
        """Ends the connection once the requests that have begun are answered."""
        self._draining = True
        if self._active is not None and self._current is not None:
            self._current.keep_alive = False  # of the last one
        elif self._phase != HEAD:
            self.transport.close()

    def cut_short(self) -> None:
        """Stops waiting for an answer on a lane; a task of ASGI is cancelled by the server."""
        if isinstance(self._active, LaneRequest):
            self._active.cancel()

    def sweep(self, now: float) -> None:
        """Ends the connection if the client is overdue; `now` is the time of the loop, seconds."""
        if self._deadlines.reader_stalled(self.transport.get_write_buffer_size(), now):
            self.transport.abort()
        elif not self.transport.is_closing():
            seen = (self._messages, self._phase, self._active is None)
            overdue = self._deadlines.look(seen, self._wire_bytes, self._is_held_back(), now)
            if isinstance(overdue, Refused):
                self._refuse(overdue)
            elif overdue:
                self.transport.close()

    def _is_held_back(self) -> bool:
        waits = self._current is not None and self._current.waiting_for_100_continue
        return self.flow.read_paused or (self._phase == BODY and waits)


def _abandon(cycle: RequestResponseCycle | LaneRequest) -> None:
    if isinstance(cycle, LaneRequest):
        cycle.abandon()
    else:
        cycle.disconnected = True
        cycle.message_event.set()


def _reason(error: httptools.HttpParserError) -> Refused:
    """The exception of a callback, or what the parser itself says."""
    cause = error.__context__
    if isinstance(cause, Refused):
        return cause
    if cause is not None:
        _log.error("A parser callback failed", exc_info=cause)
    return rules.bad_request(f"This is not HTTP/1.1 ({error}); send a well-formed request.")
