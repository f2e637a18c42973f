"""A service running in this process: its options, its HTTP face, and its event loop.

It knows how the engine and the server start and end, in which order, and that nothing is left
behind. It does not know who asked for that: the command line, a notebook or a test.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from salver.engine.local import LocalEngine
from salver.errors import ConfigError
from salver.options import ServerSettings
from salver.service import Service
from salver.settings import Overrides, gather_overrides

if TYPE_CHECKING:
    from salver.account.about import About
    from salver.account.account import Account

Result = TypeVar("Result")


@dataclass(frozen=True)
class Configuration:
    """Options given outside the code, before they meet a service.

    Attributes:
        config: YAML file, if any.
        sets: `--set` arguments.
        server: Options of the HTTP face given as arguments; the strongest.
    """

    config: Path | None = None
    sets: tuple[str, ...] = ()
    server: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self, service: Service) -> Overrides:
        """The options for the deployments of `service`."""
        return gather_overrides(service.deployments, self.config, self.sets)

    def settings(self, overrides: Overrides) -> ServerSettings:
        """The options of the HTTP face.

        Raises:
            ConfigError: If others could reach the service without a key.
        """
        settings = self._unchecked(overrides)
        settings.refuse_exposure()
        return settings

    def record(self, overrides: Overrides) -> str | None:
        """File in which answers are kept; null if none are."""
        return self._unchecked(overrides).record

    def drain_timeout_s(self, overrides: Overrides) -> float:
        """Seconds that what runs has to finish at the end."""
        return self._unchecked(overrides).drain_timeout_s

    def _unchecked(self, overrides: Overrides) -> ServerSettings:
        changes = {**overrides.server, **self.server}
        return ServerSettings().replace(changes, "the server options")


class Face:
    """The HTTP side of one engine: the front on a server, from bound to drained.

    Args:
        engine: Answers; may still be starting.
        settings: How to listen.
    """

    def __init__(self, engine: LocalEngine, settings: ServerSettings) -> None:
        from salver.online.front import Front
        from salver.online.http import HttpLimits, make_server

        service = engine.service
        self._account = _account(engine, settings)
        self.front = Front(
            service,
            engine.handles,
            settings=settings,
            registry=engine.metrics.registry,
            readiness=engine.readiness,
            examples=engine.examples,
            recording=self._account,
        )
        hosts = settings.allowed_hosts
        limits = HttpLimits(
            max_body_bytes=settings.max_body_bytes,
            allowed_hosts=None if hosts is None else tuple(hosts),
        )
        self._server = make_server(
            self.front,
            host=settings.host,
            port=settings.port,
            limits=limits,
            lanes=self.front.lanes(),
        )
        self._settings = settings

    @property
    def address(self) -> str:
        """URL at which the service answers."""
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.port}"

    async def start(self) -> None:
        """Binds the port.

        Raises:
            ConfigError: If it cannot be bound.
        """
        try:
            await self._server.start()
        except OSError as error:
            await self.close_account()
            raise ConfigError(error.strerror or str(error)) from error

    async def stop(self) -> None:
        """Readiness off, no new connections, requests in flight answered."""
        self.front.begin_shutdown()
        try:
            await self._server.stop(self._settings.drain_timeout_s)
        finally:
            await self.close_account()

    async def close_account(self) -> None:
        """Writes what waits to be kept; nothing where nothing is kept."""
        if self._account is not None:
            await asyncio.to_thread(self._account.close)


def _account(engine: LocalEngine, settings: ServerSettings) -> Account | None:
    """Where answers are kept, if that is asked for."""
    if settings.record is None:
        return None
    from salver.account.about import about_deployment
    from salver.account.account import Account

    def tells(name: str) -> About:
        return about_deployment(engine.deployment(name), engine.checkpoints(name))

    return Account(
        Path(settings.record),
        version=engine.version,
        tells=tells,
        registry=engine.metrics.registry,
        with_inputs=settings.record_inputs,
        max_records=settings.max_records,
    )


class Session:
    """A service running in the background of this process, on an event loop of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="salver-engine", daemon=True
        )
        self._thread.start()
        self.engine: LocalEngine | None = None
        self.face: Face | None = None
        self._drain_s = 0.0

    def start(self, target: str | None, configuration: Configuration) -> LocalEngine:
        """Starts the engine; nothing is left behind if it fails."""
        overrides = configuration.overrides(self._service)
        self._drain_s = configuration.drain_timeout_s(overrides)

        async def start() -> LocalEngine:
            engine = LocalEngine(self._service, target, overrides)
            await engine.start()
            return engine

        self.engine = self.wait_for(start())
        return self.engine

    def listen(self, settings: ServerSettings) -> Face:
        """Opens the HTTP port."""

        async def listen() -> Face:
            assert self.engine is not None
            face = Face(self.engine, settings)
            await face.start()
            return face

        self.face = self.wait_for(listen())
        return self.face

    def wait_for(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine on the session's loop and waits; Ctrl-C cancels it.

        Raises:
            ConfigError: From the session's own loop, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise ConfigError(
                "This call blocks and was made on the service's own event loop, as from an "
                "`async def` route. Await the deployment instead: `await tagger(rows)`."
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """Drains and ends everything, the loop and its thread included."""

        async def stop() -> None:
            try:
                if self.face is not None:
                    await self.face.stop()
            finally:
                if self.engine is not None:
                    await self.engine.stop(self._drain_s)
                await self._loop.shutdown_default_executor()

        try:
            self.wait_for(stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
