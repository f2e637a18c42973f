"""Asks a running service over HTTP, and asks again where that is safe and likely to help.

A prediction changes nothing, nor does a label that is told again, so both may be asked twice: after a
connection that broke, an answer that a proxy gave because a replica had ended, or 503. It does not
know the service's code.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, overload
from urllib.parse import quote, urlencode

import orjson
import urllib3

from salver.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    QueueFull,
    SalverError,
    class_of,
    error_of,
)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CONNECTIONS = 64  # kept open, for as many threads

Row = Mapping[str, Any]


class Client:
    """A service at a URL; may be used by many threads at once.

    Args:
        url: With the route prefix, if the service has one.
        api_key: As in SALVER_API_KEY of the service; null if it asks for none.
        timeout_s: Seconds to wait for one answer.
        retry_s: Seconds from the first try within which it is asked again; 0 asks once.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retry_s: float = 30.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        headers = {"content-type": "application/json"}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key}"
        self._pool = urllib3.PoolManager(
            headers=headers, retries=False, timeout=timeout_s, maxsize=CONNECTIONS
        )

    @overload
    def predict(
        self,
        rows: Row,
        deployment: str | None = None,
        details: Sequence[str] = (),
        request_id: str | None = None,
    ) -> dict[str, Any]: ...

    @overload
    def predict(
        self,
        rows: Sequence[Row],
        deployment: str | None = None,
        details: Sequence[str] = (),
        request_id: str | None = None,
    ) -> list[dict[str, Any]]: ...

    def predict(
        self,
        rows: Row | Sequence[Row],
        deployment: str | None = None,
        details: Sequence[str] = (),
        request_id: str | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Asks for one row, or for several at once.

        Args:
            rows: One row, or a list of them.
            deployment: Which one; null if the service has one.
            details: What each answer shall carry beyond the result, such as "confidence".
            request_id: Of this request, by which `feedback` names it: up to 64 letters, digits,
                dots, dashes and underscores; null lets the service choose one.

        Returns:
            The answer, or one for each row in order; a row of a list that failed has `error`.

        Raises:
            InvalidInput: If a row does not fit the service's schema; `problems` says where.
            NotReady: If there is no service at the URL, or it cannot answer now.
            DeadlineExceeded: If the answer takes too long.
            SalverError: Any other error of the service, as its own class where it is known.
        """
        path = "/predict/" if deployment is None else f"/{quote(deployment)}/predict/"
        body = orjson.dumps(rows if isinstance(rows, Mapping) else list(rows))
        named = [details] if isinstance(details, str) else details
        query = f"?{urlencode({'details': ','.join(named)})}" if named else ""
        if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
            raise InvalidInput(
                f"request_id was given {request_id!r}; it takes 1 to 64 letters, digits, dots, dashes "
                "and underscores. The service would choose another."
            )
        headers = {} if request_id is None else {"x-request-id": request_id}
        answer = self._answer(f"{self._url}{path}{query}", body, "results", headers)
        results: list[dict[str, Any]] = answer["results"]
        return results[0] if isinstance(rows, Mapping) else results

    def feedback(self, labels: Sequence[Mapping[str, Any]]) -> int:
        """Tells what turned out to be true of rows that were answered, to a service that records.

        Args:
            labels: Each with `request_id`, `label` and, for requests of several rows, `row`.

        Returns:
            How many are of rows that are on record; the others are kept, too.

        Raises:
            InvalidInput: If a label is not of this form; none is kept then.
            SalverError: As `predict`, and if the service keeps no answers.
        """
        body = orjson.dumps(list(labels))
        try:
            matched: int = self._answer(f"{self._url}/feedback/", body, "matched")["matched"]
        except SalverError as error:
            if error.code != "not_found" and "answered 404" not in error.message:
                raise
            raise SalverError(
                f"{self._url} takes no labels, for it keeps no answers. Start it with --record FILE."
            ) from error
        return matched

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _answer(
        self, url: str, body: bytes, wanted: str, headers: Mapping[str, str] | None = None
    ) -> Any:
        end = time.monotonic() + self._retry_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self._once(url, body, wanted, {**self._pool.headers, **(headers or {})})
            except (NotReady, QueueFull) as error:
                wait = max(pause, error.retry_after_s or 0)
                if time.monotonic() + wait > end:
                    raise
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _once(self, url: str, body: bytes, wanted: str, headers: Mapping[str, str]) -> Any:
        try:
            response = self._pool.request("POST", url, body=body, headers=headers)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise DeadlineExceeded(f"{url} did not answer within {self._timeout_s:g} s.") from error
        except (urllib3.exceptions.LocationValueError, urllib3.exceptions.SSLError) as error:
            raise SalverError(f"{url} cannot be asked: {error}") from error
        except urllib3.exceptions.HTTPError as error:
            raise NotReady(f"{url} cannot be reached: {error}", 0) from error
        said = _decoded(response.data)
        if response.status == 200 and wanted in said:
            return said
        raise _error(said, response, url)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _error(said: Mapping[str, Any], response: urllib3.BaseHTTPResponse, url: str) -> SalverError:
    """What the service said, or what stands between: a proxy that lost it, another server."""
    error = said.get("error")
    told = response.headers.get("retry-after", "")
    retry_after_s = int(told) if told.isdecimal() else 0  # others may give a date
    if isinstance(error, dict) and class_of(str(error.get("code"))) is not None:
        return error_of(
            error["code"],
            str(error.get("message", "")),
            retry_after_s=retry_after_s,
            problems=error.get("problems", ()),
        )
    message = f"{url} answered {response.status}: {response.data[:200].decode(errors='replace')}"
    its_own = isinstance(error, dict) and response.status != 503
    if response.status >= 500 and not its_own:
        return NotReady(message, retry_after_s)
    return SalverError(message)
