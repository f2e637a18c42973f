"""The short lane: a request body becomes rows, rows become outcomes, outcomes become bytes.

One route per exposed deployment, with no framework object on the way. It does not know what is
behind the handle it asks, nor which path led here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from salver.definition import Deployment, Handle
from salver.errors import UnsupportedMediaType
from salver.online.departure import ClientLeft, Departures
from salver.online.exchange import JSON, Exchange, failure_json, header_value
from salver.online.metrics import RowTally
from salver.online.refusals import BodyTooLarge
from salver.settings import ServerSettings
from salver.types import Failure, Outcome

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
    """

    def __init__(
        self,
        deployment: Deployment,
        handle: Handle,
        settings: ServerSettings,
        rows: RowTally,
        departures: Departures,
    ) -> None:
        self._parse = deployment.schema.parse_json
        self._ask = handle.ask
        self._max_body = settings.max_body_bytes
        self._max_rows = settings.max_rows
        self._rows = rows
        self._watch = departures.watch

    async def __call__(self, exchange: Exchange) -> None:
        """Answers one request.

        Raises:
            RequestError: If the request is refused; nothing was computed.
            ServingError: If the deployment cannot answer now.
            ClientLeft: If there is nobody to answer.
        """
        _check_media_type(exchange.headers)
        body = await _read_body(exchange, self._max_body)
        batch = self._parse(body, self._max_rows).batch
        outcomes: Sequence[Outcome] = ()
        if len(batch):
            outcomes = await self._watch(self._ask(batch), exchange.receive)
        try:
            body = orjson.dumps({"results": [outcome.as_json() for outcome in outcomes]})
        except TypeError:  # orjson's error for what JSON cannot hold; only those rows fail
            outcomes = [_writable(outcome) for outcome in outcomes]
            body = orjson.dumps({"results": [outcome.as_json() for outcome in outcomes]})
        failed = self._rows.add(outcomes)
        if failed and failed == len(outcomes):
            await exchange.answer(500, _all_failed(outcomes, exchange.request_id.decode()))
        else:
            await exchange.answer(200, body)


async def _read_body(exchange: Exchange, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes; what is larger is not read on.

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


def _check_media_type(headers: Mapping[bytes, bytes]) -> None:
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


def _writable(outcome: Outcome) -> Outcome:
    try:
        orjson.dumps(outcome.as_json())
    except TypeError:
        return Outcome(None, _UNWRITABLE)
    return outcome
