"""What the HTTP server accepts: limits, the strict reading of a request head, and its own answers.

Pure functions over bytes. This module does not know connections, time, the parser or the app.
"""

from __future__ import annotations

import http
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

BAD_REQUEST = "bad_request"
BODY_TOO_LARGE = "body_too_large"
HEADERS_TOO_LARGE = "headers_too_large"
HOST_NOT_ALLOWED = "host_not_allowed"
INTERNAL_ERROR = "internal_error"
NOT_READY = "not_ready"
REQUEST_TIMEOUT = "request_timeout"
TOO_MANY_CONNECTIONS = "too_many_connections"
URL_TOO_LONG = "url_too_long"

Headers = Iterable[tuple[bytes, bytes]]

# Headers that decide where a request ends, or for whom it is.
FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
_MAX_REMEMBERED_HOSTS = 256
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may ask of the server. Sizes are bytes; times are seconds, within +-1 s.

    Attributes:
        max_body_bytes: One request body; 413 above.
        max_header_bytes: Request line and headers together; 431 above.
        max_headers: Number of headers; 431 above.
        max_url_bytes: The request target; 414 above.
        max_connections: Open at once; 503 above. A process may usually hold 1,024 files open.
        header_timeout_s: From the first byte of a request, or from connecting, to its last header.
        body_grace_s: A body must bring `body_min_bytes_per_s` over each span of this length.
        body_min_bytes_per_s: Slower senders get 408; slower readers are cut off.
        keep_alive_s: A connection without a request is closed after this time.
        write_stall_s: A client that takes (nearly) nothing of its answer is cut off after this.
        allowed_hosts: Names that the Host header may hold, without port; `("*",)` for any. None
            means the loopback names when the server is bound to loopback, and any otherwise.
    """

    max_body_bytes: int = 8 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_headers: int = 100
    max_url_bytes: int = 8 * 1024
    max_connections: int = 900
    header_timeout_s: float = 10.0
    body_grace_s: float = 10.0
    body_min_bytes_per_s: int = 1024
    keep_alive_s: float = 5.0
    write_stall_s: float = 30.0
    allowed_hosts: tuple[str, ...] | None = None


class Refused(Exception):
    """An answer that the server gives by itself, after which the connection ends."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def render(self, request_id: str, headers: Headers) -> bytes:
        """The whole answer: JSON with code, message and request id."""
        error = {"code": self.code, "message": self.message, "request_id": request_id}
        body = json.dumps({"error": error}).encode()
        phrase = http.HTTPStatus(self.status).phrase
        head = (
            f"HTTP/1.1 {self.status} {phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        ).encode()
        return b"".join((head, *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body))


INTERNAL = Refused(500, INTERNAL_ERROR, "The server could not answer; report this request id.")
SHUTTING_DOWN = Refused(503, NOT_READY, "The server is shutting down; try again.")
BUSY = Refused(503, TOO_MANY_CONNECTIONS, "The server holds all connections it may; try again.")


class Hosts:
    """The names that a Host header may hold; remembers accepted values, to stay cheap."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.strip("[]").lower() for name in names}
        self._accepted: set[bytes] = set()

    def check(self, value: bytes) -> None:
        """Raises `Refused` unless the value is a well-formed Host header with an allowed name."""
        if value in self._accepted:
            return
        match = _HOST.fullmatch(value.strip(b" \t"))
        if match is None:
            raise bad_request(
                f"The Host header is {_shown(value)}; send one Host header, `name[:port]`."
            )
        name = match[1].strip(b"[]").lower().decode()
        if name not in self._names and "*" not in self._names:
            raise Refused(
                421,
                HOST_NOT_ALLOWED,
                f"The Host header names {name[:80]!r}, which is not served here; use a name that"
                " is, or have this one added to allowed_hosts.",
            )
        if len(self._accepted) < _MAX_REMEMBERED_HOSTS:
            self._accepted.add(value)


def host_names(host: str, allowed: Sequence[str] | None) -> Sequence[str]:
    """The names that are served: those allowed, or else what leads to `host`.

    Args:
        host: Address that is bound.
        allowed: Names from the settings; null where nothing was said.
    """
    if allowed is not None:
        return allowed
    return (*_LOOPBACK_NAMES, host) if _is_loopback(host) else ("*",)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_framing(
    version: str, framing: Mapping[bytes, bytes], hosts: Hosts, max_body_bytes: int
) -> None:
    """Raises `Refused` for headers that two servers could read differently, or that ask too much.

    Args:
        version: "1.0" or "1.1".
        framing: The `FRAMING` headers by lower-case name; one that came twice is joined by a comma,
            which none of them may hold.
        hosts: Who we are.
        max_body_bytes: Limit of a declared body length.
    """
    host = framing.get(b"host")
    if host is not None:
        hosts.check(host)
    elif version == "1.1":
        raise bad_request("There is no Host header; send exactly one.")
    length = framing.get(b"content-length")
    coding = framing.get(b"transfer-encoding")
    if coding is not None and (
        coding.lower() != b"chunked" or length is not None or version == "1.0"
    ):
        raise bad_request(
            f"The Transfer-Encoding is {_shown(coding)}; send `chunked` alone, over HTTP/1.1 and"
            " without Content-Length."
        )
    if length is not None:
        if not length.strip(b" \t").isdigit():
            raise bad_request(f"The Content-Length is {_shown(length)}; send one decimal number.")
        if len(length) > 18 or int(length) > max_body_bytes:
            raise body_too_large(f"has {length[:20].decode()} bytes", max_body_bytes)


def origin_form(target: bytes, host: bytes | None) -> bytes:
    """The path of a request target; of an absolute one only if it names the host that Host names.

    Raises:
        Refused: It names another host, is no http URL, or holds a fragment.
    """
    path = target
    if not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        authority = re.split(rb"[/?]", rest, maxsplit=1)[0]
        named = host is not None and authority.lower() == host.strip(b" \t").lower()
        if scheme.lower() not in (b"http", b"https") or not named:
            raise bad_request(
                f"The request target is {_shown(target)}; send a path, or an http URL of the very"
                " host that the Host header names."
            )
        path = rest[len(authority) :]
        path = path if path.startswith(b"/") else b"/" + path
    if b"#" in path:
        raise bad_request("The request target holds '#'; percent-encode it or leave it out.")
    return path


def bad_request(message: str) -> Refused:
    """400 with a message."""
    return Refused(400, BAD_REQUEST, message)


def body_too_large(given: str, limit: int) -> Refused:
    """413; `given` says what the body has or is."""
    message = f"The body {given} where {limit} bytes are allowed; send it in parts."
    return Refused(413, BODY_TOO_LARGE, message)


def headers_too_large(limits: HttpLimits) -> Refused:
    """431, for headers too many or too long."""
    return Refused(
        431,
        HEADERS_TOO_LARGE,
        f"There are more than {limits.max_headers} headers, or more than"
        f" {limits.max_header_bytes} bytes of them; send fewer or smaller ones.",
    )


def url_too_long(limits: HttpLimits) -> Refused:
    """414."""
    message = f"The URL exceeds {limits.max_url_bytes} bytes; send data in the body instead."
    return Refused(414, URL_TOO_LONG, message)


def timed_out(message: str) -> Refused:
    """408 with a message."""
    return Refused(408, REQUEST_TIMEOUT, message)


def _shown(value: bytes) -> str:
    return repr(value[:80].decode("latin-1"))
