"""The short lane: a request body becomes rows, rows become outcomes, outcomes become bytes.

One route per exposed deployment, with no framework object on the way. It does not know what is
behind the handle it asks, nor which path led here.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from urllib.parse import parse_qs

import orjson

from salver.definition import Deployment, Handle
from salver.errors import InvalidInput, RequestError, UnsupportedMediaType, nearest
from salver.online.departure import ClientLeft, Departures
from salver.online.exchange import (
    CLIENT_LEFT,
    JSON,
    Exchange,
    error_answer,
    failure_json,
    header_value,
    request_id_of,
)
from salver.online.guard import Guard
from salver.online.http_lane import LaneRequest
from salver.online.metrics import HttpMetrics, RouteTally, RowTally
from salver.online.refusals import BodyTooLarge
from salver.options import DETAILS, ServerSettings
from salver.types import Batch, Failure, Outcome

_HEAD = b"content-type: application/json\r\nx-request-id: %b\r\n"
# Numbers that are not finite become null, so that an answer is valid JSON whatever a composed
# function returns; a model's own are failures long before.
_UNWRITABLE = Failure("bad_model_output", "The result of this row cannot be written as JSON.")


class PredictRoute:
    """Answers the predictions of one deployment.

    Args:
        deployment: Whose schema checks the rows.
        handle: Asked for their outcomes.
        settings: Largest body and list.
        rows: Counts the outcomes.
        departures: Watches for clients that leave.
        version: Tells the version that answers now, for clients that ask for it.
        note: Takes note of each request that is answered, by its id; null if nothing is recorded.
    """

    def __init__(
        self,
        deployment: Deployment,
        handle: Handle,
        settings: ServerSettings,
        rows: RowTally,
        departures: Departures,
        version: Callable[[], str | None],
        note: Callable[[bytes, Batch, Sequence[Outcome]], None] | None = None,
    ) -> None:
        self._version = version
        self._note = note
        self._parse = deployment.schema.parse_json
        self._ask = handle.ask
        self._max_body = settings.max_body_bytes
        self._max_rows = settings.max_rows
        self._rows = rows
        self._watch = departures.watch

    async def __call__(self, exchange: Exchange) -> None:
        """Answers one request of ASGI.

        Raises:
            RequestError: If the request is refused; nothing was computed.
            ServingError: If the deployment cannot answer now.
            ClientLeft: If there is nobody to answer.
        """
        check_media_type(exchange.headers)
        details = asked_details(exchange.scope.get("query_string", b""))
        body = await read_body(exchange, self._max_body)
        batch, future = self.begin(body)
        outcomes = await self._watch(future, exchange.receive)
        if "version" in details:
            known = {"version": self._version()}
            outcomes = [replace(one, details={**(one.details or {}), **known}) for one in outcomes]
        await exchange.answer(*self.written(batch, outcomes, exchange.request_id, details))

    def begin(self, body: bytes) -> tuple[Batch, asyncio.Future[list[Outcome]]]:
        """Checks a body and asks for the outcomes of its rows.

        Raises:
            RequestError: If the body is refused.
            ServingError: If the deployment cannot answer now.
        """
        batch = self._parse(body, self._max_rows)
        return batch, self._ask(batch)

    def written(
        self,
        batch: Batch,
        outcomes: Sequence[Outcome],
        request_id: bytes,
        details: Sequence[str] = (),
    ) -> tuple[int, bytes]:
        """Counts outcomes; gives status and body of their answer, with details if any are asked."""
        try:
            body = _results(outcomes, details)
        except TypeError:  # orjson's error for what JSON cannot hold; only those rows fail
            outcomes = [_writable(outcome, details) for outcome in outcomes]
            body = _results(outcomes, details)
        failed = self._rows.add(outcomes)
        if self._note is not None:
            self._note(request_id, batch, outcomes)
        if failed and failed == len(outcomes):
            return 500, _all_failed(outcomes, request_id.decode())
        return 200, body


class PredictLane:
    """The same answers without ASGI, for requests that nothing is unusual about.

    Args:
        path: Of the route.
        route: What answers.
        guard: Who may ask.
        metrics: Where requests under way are counted.
        tally: Where they are counted when they are answered.
    """

    def __init__(
        self,
        path: str,
        route: PredictRoute,
        guard: Guard,
        metrics: HttpMetrics,
        tally: RouteTally,
    ) -> None:
        self._path = path
        self._route = route
        self._check = guard.check
        self._metrics = metrics
        self._tally = tally

    def takes(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether nothing in the head is to be refused; the app says what is wrong with it."""
        try:
            self._check(self._path, "POST", headers)
            check_media_type(headers)
        except RequestError:
            return False
        return True

    def begin(self, request: LaneRequest) -> None:
        """See `salver.online.http_lane.Lane`."""
        started = perf_counter()
        self._metrics.in_flight += 1
        try:
            batch, future = self._route.begin(b"".join(request.parts))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is answered
            self._end(request, started, *self._failed(request, error))
            return
        request.future = future
        future.add_done_callback(functools.partial(self.finish, request, batch, started))

    def finish(
        self,
        request: LaneRequest,
        batch: Batch,
        started: float,
        done: asyncio.Future[list[Outcome]],
    ) -> None:
        """Writes the answer to a request.

        Args:
            request: Begun here.
            batch: Its rows.
            started: When, on the clock of `perf_counter`, in seconds.
            done: What it asked for, or that its wait was cancelled.
        """
        if done.cancelled():
            request.give_up()
            self._count(CLIENT_LEFT, started)
            return
        request_id = request_id_of(request.headers)
        try:
            status, body = self._route.written(batch, done.result(), request_id)
        except Exception as error:  # noqa: BLE001
            self._end(request, started, *self._failed(request, error))
        else:
            self._end(request, started, status, _HEAD % request_id, body)

    def _failed(self, request: LaneRequest, error: Exception) -> tuple[int, bytes, bytes]:
        request_id = request_id_of(request.headers)
        status, body, headers = error_answer(error, request_id, f"POST {self._path!r}")
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return status, _HEAD % request_id + lines, body

    def _end(
        self, request: LaneRequest, started: float, status: int, head: bytes, body: bytes
    ) -> None:
        request.send(status, head, body)
        self._count(status, started)

    def _count(self, status: int, started: float) -> None:
        self._metrics.in_flight -= 1
        self._tally.add("POST", status, perf_counter() - started)


def _results(outcomes: Sequence[Outcome], details: Sequence[str]) -> bytes:
    return orjson.dumps({"results": [outcome.as_json(details) for outcome in outcomes]})


def asked_details(query: bytes) -> tuple[str, ...]:
    """Names after `details=`, separated by commas; "all" stands for all.

    Raises:
        InvalidInput: For a name that is none.
    """
    if not query:
        return ()
    given = parse_qs(query.decode("latin-1")).get("details", [])
    names = tuple(dict.fromkeys(name for text in given for name in text.split(",") if name))
    if "all" in names:
        return DETAILS
    for name in names:
        if name not in DETAILS:
            known = nearest(name, DETAILS)
            raise InvalidInput(
                f"details={name[:100]!r} was asked for in the URL, and there is no such. {known}",
                [{"path": ["details"], "message": "no such detail", "type": "unknown_detail"}],
            )
    return names


async def read_body(exchange: Exchange, limit: int) -> bytes:
    """The whole body of a request, of at most `limit` bytes; what is larger is not read on.

    Raises:
        BodyTooLarge: As soon as that is known.
        ClientLeft: If the client left before its end.
    """
    declared = exchange.headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared[:20]) > limit:
        raise BodyTooLarge(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit)
        if not message.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        if part:
            parts.append(part)


def check_media_type(headers: Mapping[bytes, bytes]) -> None:
    """Lets JSON pass, also when the client did not say that it is JSON.

    Raises:
        UnsupportedMediaType: For any other type, charset or encoding.
    """
    given = headers.get(b"content-type")
    if given is not None and given != JSON and not _is_json(header_value(headers, b"content-type")):
        raise UnsupportedMediaType(
            f"The body was sent as {given[:100].decode('latin-1')!r}; this route takes JSON in "
            "UTF-8. Send the header `content-type: application/json`."
        )
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType(
            f"The body was sent with content-encoding {encoding[:100].decode('latin-1')!r}; this "
            "route takes it unencoded. Leave the header out."
        )


def _is_json(content_type: str) -> bool:
    kind, *parameters = (part.strip() for part in content_type.lower().split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in ("utf-8", "utf8"):
            return False
    return kind in ("", "application/json") or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _all_failed(outcomes: Sequence[Outcome], request_id: str) -> bytes:
    first = outcomes[0].failure
    assert first is not None
    error = {**failure_json(first), "request_id": request_id}
    return orjson.dumps({"error": error, "results": [o.as_json() for o in outcomes]})


def _writable(outcome: Outcome, details: Sequence[str]) -> Outcome:
    try:
        orjson.dumps(outcome.as_json(details))
    except TypeError:
        return Outcome(None, _UNWRITABLE)
    return outcome
