"""One HTTP request and the answer to it: request id, head, body, and errors in one shape.

Every answer is valid JSON with a content length and carries `x-request-id`; an error holds it in
its body too. This module does not know routes, deployments or the user's app.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from salver.errors import InvalidInput, RequestError, ServingError, Unauthorized
from salver.online.refusals import BodyTooLarge, MethodNotAllowed
from salver.types import Failure, RowFailed

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger("salver.online")

JSON = b"application/json"
CLIENT_LEFT = 499  # never sent; the status that metrics give to a request without an answer

Header = tuple[bytes, bytes]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Unique per process and cheap: a random part, then a number that counts requests.
_PREFIX = os.urandom(6).hex().encode()
_numbers = itertools.count(1)


class Exchange:
    """A request on its way through the front.

    Attributes:
        scope: The ASGI scope; the user's app may add to it.
        receive: The ASGI channel of the body.
        send: The ASGI channel of the answer.
        headers: The request's headers, names in lower case; of a repeated one, the last.
        request_id: The client's own id when it is well formed, else a new one; ASCII.
        status: Of the answer, once its head was sent; 0 before.
    """

    __slots__ = ("headers", "receive", "request_id", "scope", "send", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.status = 0
        self.request_id = request_id_of(self.headers)

    async def answer(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        headers: Iterable[Header] = (),
    ) -> None:
        """Sends head and body; a HEAD request gets the head alone."""
        self.status = status
        await self.send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type),
                    (b"content-length", b"%d" % len(body)),
                    (b"x-request-id", self.request_id),
                    *headers,
                ],
            }
        )
        if self.scope["method"] == "HEAD":
            body = b""
        await self.send({"type": "http.response.body", "body": body})

    async def answer_json(self, status: int, content: Any) -> None:
        """Sends `content` as JSON."""
        await self.answer(status, orjson.dumps(content))

    async def fail(self, error: Exception) -> None:
        """Sends an error in the one shape; what it was not meant to say goes to the log only."""
        asked = f"{self.scope['method']} {self.scope['path'][:200]!r}"
        status, body, headers = error_answer(error, self.request_id, asked)
        await self.answer(status, body, headers=headers)


def request_id_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The client's own id when it is well formed, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return b"%b-%x" % (_PREFIX, next(_numbers))


def error_answer(
    error: Exception, request_id: bytes, asked: str
) -> tuple[int, bytes, list[Header]]:
    """Status, body and headers of the answer to a request that failed.

    What the error was not meant to say goes to the log only, with what was `asked`.
    """
    status, public, headers = public_error(error)
    if status == 500:
        log.error("request %s (%s) failed", request_id.decode(), asked, exc_info=error)
    public["request_id"] = request_id.decode()
    return status, orjson.dumps({"error": public}), headers


def public_error(error: Exception) -> tuple[int, dict[str, Any], list[Header]]:
    """HTTP status, public part and headers of an error.

    Only errors made for the asker are told; any other becomes `internal_error`.
    """
    if isinstance(error, RowFailed):
        return 500, failure_json(error.failure), []
    if not isinstance(error, RequestError | ServingError):
        message = "The service failed on this request. Its log has the reason under the request id."
        return 500, {"code": "internal_error", "message": message}, []
    public: dict[str, Any] = {"code": error.code, "message": error.message}
    headers: list[Header] = []
    if isinstance(error, InvalidInput):
        public["problems"] = error.problems
    elif isinstance(error, ServingError) and error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    elif isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    elif isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    elif isinstance(error, BodyTooLarge):
        # What the client still sends is not worth reading.
        headers.append((b"connection", b"close"))
    return error.status, public, headers


def failure_json(failure: Failure) -> dict[str, Any]:
    """Code and message of a failed row, without its path."""
    return {"code": failure.code, "message": failure.message}


def header_value(headers: Mapping[bytes, bytes], name: bytes) -> str:
    """A request header as text, without blanks at its ends; empty when there is none."""
    return headers.get(name, b"").decode("latin-1").strip()
