"""The HTTP server: carries one ASGI app in the running event loop, with limits on by default.

`make_server` and `HttpLimits` are all that others need. How a connection is read stands in
`http_protocol`, what is accepted in `http_rules`.

This module does not know routes, models, API keys or `Origin`, where settings come from, TLS, or
signals: its owner calls `stop()` or sets `should_exit`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from salver.errors import ConfigError
from salver.online.http_lane import Lane, Lanes
from salver.online.http_protocol import HttpProtocol
from salver.online.http_rules import Hosts, HttpLimits, host_names

__all__ = ["HttpLimits", "HttpServer", "bind", "make_server"]

_log = logging.getLogger(__name__)

_BACKLOG = 2048  # connections that the kernel holds until they are accepted
_MIN_TICK_S, _MAX_TICK_S = 0.02, 0.4  # between sweeps; a deadline is met two ticks late at most


class HttpServer:
    """One listening socket; made by `make_server`.

    Attributes:
        should_exit: Set it, from any thread, to end `serve()`.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        limits: HttpLimits,
        lanes: Lanes,
        sock: socket.socket | None,
        drain_s: float,
    ) -> None:
        self.should_exit = False
        self._lanes = lanes
        self._config = config
        self._limits = limits
        self._sock = sock
        self._drain_s = drain_s
        self._state = ServerState()
        self._port: int | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port in use; known once the server has started.

        Raises:
            RuntimeError: It has not.
        """
        if self._port is None:
            raise RuntimeError("The server has no port before start().")
        return self._port

    async def start(self) -> None:
        """Binds, starts the lifespan of the app, and listens.

        Raises:
            OSError: The address cannot be bound.
            ConfigError: The app failed to start.
        """
        sock = self._sock or bind(self._config.host, self._config.port)
        if not self._config.loaded:
            self._config.load()
        self._lifespan = self._config.lifespan_class(self._config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            sock.close()
            raise ConfigError("The app failed to start: its log, above, says why.")
        self._set_date()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connect, sock=sock, backlog=_BACKLOG)
        self._port = int(sock.getsockname()[1])
        self._sweeper = loop.create_task(self._sweep())

    async def serve(self) -> None:
        """Starts, waits for `should_exit` or for being cancelled, and stops."""
        await self.start()
        try:
            while not self.should_exit:  # noqa: ASYNC110 - set by a signal handler or a thread
                await asyncio.sleep(0.1)
        finally:
            await self.stop()

    async def stop(self, drain_s: float | None = None) -> None:
        """Stops accepting, lets the requests that have begun finish, and closes everything.

        Args:
            drain_s: Seconds that requests get (default: as the server was made); the rest is
                answered 503. The app's own shutdown gets what is left then, at least a second.
        """
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        loop = asyncio.get_running_loop()
        end = loop.time() + (self._drain_s if drain_s is None else drain_s)
        await self._drain(end)
        for task in self._state.tasks:
            task.cancel()
        for connection in self._connections():
            connection.cut_short()
        await self._drain(loop.time() + 0.5)
        for connection in self._connections():
            connection.transport.abort()
        self._sweeper.cancel()
        try:
            await asyncio.wait_for(self._lifespan.shutdown(), max(1.0, end - loop.time()))
        except TimeoutError:
            _log.error("The app's shutdown did not end in time")

    async def _drain(self, end: float) -> None:
        loop = asyncio.get_running_loop()
        for connection in self._connections():
            connection.shutdown()
        state = self._state
        while (state.connections or state.tasks) and loop.time() < end:  # noqa: ASYNC110 - rare
            await asyncio.sleep(0.02)

    async def _sweep(self) -> None:
        limits = self._limits
        shortest = min(
            limits.header_timeout_s, limits.body_grace_s, limits.keep_alive_s, limits.write_stall_s
        )
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_MAX_TICK_S, max(_MIN_TICK_S, shortest / 4)))
            self._set_date()
            now = loop.time()
            for connection in self._connections():
                try:
                    connection.sweep(now)
                except Exception:  # noqa: BLE001 - the deadlines of all others go on
                    _log.exception("A connection could not be checked")

    def _connect(self) -> asyncio.Protocol:
        make = self._config.http_protocol_class
        return make(self._config, self._state, self._lifespan.state)  # type: ignore[call-arg]

    def _connections(self) -> list[HttpProtocol]:
        return cast("list[HttpProtocol]", list(self._state.connections))

    def _set_date(self) -> None:
        date = formatdate(usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]
        self._lanes.common = b"date: %b\r\n" % date


def make_server(
    app: Callable[..., Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: HttpLimits | None = None,
    lanes: Mapping[bytes, Lane] | None = None,
    sock: socket.socket | None = None,
    drain_s: float = 30.0,
) -> HttpServer:
    """A server for an ASGI 3 app. Nothing is bound before `start()`.

    Args:
        app: The ASGI app.
        host: Address to bind: IPv4, IPv6 or a name. With `sock` it only tells which Host headers
            are allowed by default.
        port: Port to bind; 0 takes a free one.
        limits: See `HttpLimits`.
        lanes: Who answers the usual POST requests of a target, such as b"/predict/", without the
            app; all others go to the app.
        sock: A bound socket to use instead; the server closes it.
        drain_s: Seconds that requests get to finish when the server stops.
    """
    limits = limits or HttpLimits()
    hosts = Hosts(host_names(host, limits.allowed_hosts))
    shared = Lanes(lanes or {})
    protocol = functools.partial(HttpProtocol, limits=limits, hosts=hosts, lanes=shared)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    return HttpServer(config, limits, shared, sock, drain_s)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: If it cannot; its `strerror` says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        told = f"Cannot listen on {host} port {port}: {exc.strerror}."
        hint = "Choose an address of this machine and a free port (0 takes any)."
        raise OSError(exc.errno, f"{told} {hint}") from exc
