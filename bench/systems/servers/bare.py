"""The bare limit of an HTTP server in Python: an ASGI app that echoes one JSON text to any request.

It reads the body and throws it away: no validation, no queue, no limits, no metrics. uvicorn and
granian both run it. BENCH_ECHO holds the text.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

BODY = os.environ["BENCH_ECHO"].encode()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
    ],
}
REST = {"type": "http.response.body", "body": BODY}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(_scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answers a request."""
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(REST)
