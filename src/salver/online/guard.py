"""Who may ask: the API key, and pages of other sites.

Decides on the path, the method and the headers of a request alone. It does not know what a
route does.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from salver.errors import ForbiddenOrigin, Unauthorized
from salver.online.exchange import header_value

OPEN_PATHS = frozenset({"/-/healthz", "/-/readyz"})
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Guard:
    """Refuses requests that may not be served.

    Args:
        api_key: Key that all but the health checks must show; null asks for none.
    """

    def __init__(self, api_key: str | None) -> None:
        self._key = None if api_key is None else api_key.encode()

    def check(self, path: str, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Lets a request pass.

        Args:
            path: As in the ASGI scope; nothing else (URL, Host) may decide.
            method: HTTP method.
            headers: Of the request, names in lower case.

        Raises:
            Unauthorized: If a key is asked for and not shown.
            ForbiddenOrigin: If a browser page of another origin asks for a change.
        """
        if self._key is not None and path not in OPEN_PATHS and not self._shows_key(headers):
            raise Unauthorized(
                "This service asks for its API key. Send `Authorization: Bearer KEY` or "
                "`X-API-Key: KEY`."
            )
        if b"origin" in headers and method in CHANGING and not _same_origin(headers):
            raise ForbiddenOrigin(
                "The Origin header names another site than the Host header; pages of other sites "
                "may not change anything here. Call the service from its own origin, or from a "
                "program that sends no Origin."
            )

    def _shows_key(self, headers: Mapping[bytes, bytes]) -> bool:
        assert self._key is not None
        shown = headers.get(b"x-api-key", b"").strip()
        scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
        bearer = token.strip() if scheme.lower() == b"bearer" else b""
        # Both are always compared, so that the time tells nothing; an empty key opens nothing.
        by_bearer = hmac.compare_digest(bearer, self._key)
        by_header = hmac.compare_digest(shown, self._key)
        return (by_bearer or by_header) and bool(self._key)


def _same_origin(headers: Mapping[bytes, bytes]) -> bool:
    try:
        origin = urlsplit(header_value(headers, b"origin"))
        default = _DEFAULT_PORTS[origin.scheme]
        asked = urlsplit(f"//{header_value(headers, b'host')}")
        return origin.hostname is not None and (origin.hostname, origin.port or default) == (
            asked.hostname,
            asked.port or default,
        )
    except (KeyError, ValueError):  # "null", another scheme, or a port that is no number
        return False
