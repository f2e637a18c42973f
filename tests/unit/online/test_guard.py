from __future__ import annotations

import pytest

from salver.errors import ForbiddenOrigin, Unauthorized
from salver.online.guard import Guard

KEY = "s3cret-ключ"


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": f"Bearer {KEY}".encode()},
        {b"authorization": f"bearer   {KEY} ".encode()},
        {b"x-api-key": KEY.encode()},
        {b"x-api-key": KEY.encode(), b"authorization": b"Basic abc"},
    ],
)
def test_the_key_opens(headers: dict[bytes, bytes]) -> None:
    """The key is taken from either header, whatever the case of the scheme."""
    Guard(KEY).check("/predict/", "POST", headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": KEY.encode()},
        {b"authorization": f"Basic {KEY}".encode()},
        {b"authorization": f"Bearer {KEY[:-1]}".encode()},
        {b"authorization": f"Bearer {KEY}x".encode()},
        {b"authorization": f"Bearer {KEY} {KEY}".encode()},
        {b"x-api-key": b""},
        {b"x-api-key": KEY.upper().encode()},
        {b"x-api-key": KEY.encode("utf-16")},
        {b"x-api-key": b"x" * 1_000_000},
    ],
)
@pytest.mark.parametrize("path", ["/predict/", "/", "/-/healthz/", "/-/readyz/../x", "//-/healthz"])
def test_anything_else_does_not(headers: dict[bytes, bytes], path: str) -> None:
    """No key, part of it, or more than it opens nothing, on any path but the two exact ones."""
    with pytest.raises(Unauthorized):
        Guard(KEY).check(path, "GET", headers)


def test_an_empty_key_opens_nothing() -> None:
    """A key of no characters, set by mistake, is shown by nobody."""
    with pytest.raises(Unauthorized):
        Guard("").check("/", "GET", {b"x-api-key": b""})


@pytest.mark.parametrize("path", ["/-/healthz", "/-/readyz"])
def test_health_checks_are_open(path: str) -> None:
    """The two health checks ask for no key."""
    Guard(KEY).check(path, "GET", {})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"http://localhost:8000", b"localhost:8000"),
        (b"http://LOCALHOST:8000", b"localhost:8000"),
        (b"https://api.test", b"api.test"),
        (b"https://api.test", b"api.test:443"),
        (b"http://api.test:80", b"api.test"),
        (b"http://[::1]:8000", b"[::1]:8000"),
    ],
)
def test_the_same_origin_may_change(origin: bytes, host: bytes) -> None:
    """An origin equal to the Host passes, whichever way default ports are written."""
    Guard(None).check("/predict/", "POST", {b"origin": origin, b"host": host})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"http://evil.test", b"localhost:8000"),
        (b"http://localhost:3000", b"localhost:8000"),
        (b"https://localhost", b"localhost:80"),
        (b"http://localhost.evil.test:8000", b"localhost:8000"),
        (b"http://localhost:8000@evil.test", b"localhost:8000"),
        (b"null", b"localhost:8000"),
        (b"", b"localhost:8000"),
        (b"", b""),
        (b"file://", b""),
        (b"http://", b""),
        (b"http://localhost:x", b"localhost:x"),
        (b"http://[", b"["),
        (b"chrome-extension://abc", b"abc"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_another_origin_may_not(origin: bytes, host: bytes, method: str) -> None:
    """Another host, port or scheme, and what is no origin at all, changes nothing here."""
    with pytest.raises(ForbiddenOrigin):
        Guard(None).check("/predict/", method, {b"origin": origin, b"host": host})


def test_another_origin_may_read() -> None:
    """Reading is left to the browser, which hides the answer from the page."""
    Guard(None).check("/", "GET", {b"origin": b"http://evil.test", b"host": b"localhost"})
