"""The HTTP server by itself; what it does on a socket is tested end to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from salver.errors import ConfigError
from salver.online.http import make_server


def test_an_app_that_fails_to_start_is_an_error_of_configuration() -> None:
    """Its owner prints one sentence in place of a traceback of the server."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(ConfigError, match="The app failed to start"):
        asyncio.run(make_server(app, port=0).start())
