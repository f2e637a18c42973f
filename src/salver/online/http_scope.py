"""A request head as ASGI describes it. This module does not know connections."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def scope_of(connection: HttpToolsProtocol, version: str) -> HTTPScope:
    """The scope of the request whose head the connection has just read; `version` is of HTTP."""
    raw_path, _, query = connection.url.partition(b"?")
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": version,
        "method": connection.parser.get_method().decode("ascii"),
        "scheme": "http",
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": connection.headers,
        "server": connection.server,
        "client": connection.client,
        "state": connection.app_state.copy(),
    }
