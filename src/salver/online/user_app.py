"""The user's own ASGI app, which answers every path that Salver does not.

It is called as it is and never changed: its requests, startup and shutdown reach it unaltered;
websockets are not offered. Only an exception that it lets escape becomes an answer of Salver's.
The one door to FastAPI, which is never imported for a service that does not use it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from salver.online.exchange import Exchange, log
from salver.online.metrics import METHODS
from salver.online.refusals import RouteNotFound

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNMATCHED = "(unmatched)"  # label of all paths that no route answers
UNNAMED = "(app)"  # label of what an app answers without telling its route
MAX_HELD_BYTES = 65536  # of an error page that may have to be replaced


class UserApp:
    """Wraps the user's app.

    Args:
        app: Any ASGI app; null answers 404 to everything.
    """

    def __init__(self, app: ASGIApp | None) -> None:
        self.app = app

    @property
    def is_fastapi(self) -> bool:
        """True for an app that describes itself with OpenAPI."""
        return callable(getattr(self.app, "openapi", None)) and hasattr(self.app, "openapi_url")

    def literal_routes(self) -> set[tuple[str, str]]:
        """Method and path of each of its routes without parameters."""
        return set(_literal_routes(self.app))

    async def serve(self, exchange: Exchange) -> None:
        """Lets the app answer a request.

        Raises:
            RouteNotFound: If there is no app.
        """
        if self.app is None:
            raise RouteNotFound("No route answers this path. GET /docs lists what is served.")
        answer = _Answer(exchange)
        try:
            await self.app(exchange.scope, exchange.receive, answer.send)
        except Exception as error:
            if exchange.status:
                raise  # its head is out: only closing the connection tells the client
            if not answer.held or not _handles_errors(exchange.scope):
                await exchange.fail(error)
                return
            log.exception("request %s failed; the app answered it", exchange.request_id.decode())
        await answer.release()
        if not exchange.status:
            await exchange.fail(RuntimeError("The app returned without an answer."))

    def template(self, exchange: Exchange) -> str:
        """The route that answered, with parameters for their values; never a path as given."""
        route = exchange.scope.get("route")  # left there by FastAPI
        path = getattr(route, "path", None)
        if path is not None:
            return str(exchange.scope.get("root_path", "")) + str(path)
        return UNMATCHED if exchange.status == 404 else UNNAMED

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs startup and shutdown of the app, and reports a failure to the server.

        An app that knows no lifespan (ASGI lets it raise, or return) is served all the same.
        """
        received = answered = False

        async def receive_once() -> Message:
            nonlocal received
            message = await receive()
            received = True
            return message

        async def send_on(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "lifespan.startup.failed":
                log.error("The app failed to start: %s", message.get("message", ""))
            await send(message)

        if self.app is not None:
            try:
                await self.app(scope, receive_once, send_on)
            except Exception as error:
                if answered:
                    raise
                log.info("The app takes no part in startup and shutdown: %r", error)
            if answered:
                return
        if not received:
            await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


class _Answer:
    """The app's answer on its way out.

    A 500 is held back until the app returns: Starlette sends a text of its own and raises after
    that, and Salver's answer takes its place.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._size = 0
        self.held: list[Message] = []

    async def send(self, message: Message) -> None:
        is_500 = message["type"] == "http.response.start" and message["status"] == 500
        if not is_500 and not self.held:
            await self._pass_on(message)
            return
        self.held.append(message)
        self._size += len(message.get("body", b""))
        if self._size > MAX_HELD_BYTES:
            await self.release()

    async def release(self) -> None:
        held, self.held = self.held, []
        for message in held:
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._exchange.status = message["status"]
            headers = list(message.get("headers", ()))
            if all(name.lower() != b"x-request-id" for name, _ in headers):
                headers.append((b"x-request-id", self._exchange.request_id))
            message = {**message, "headers": headers}
        await self._exchange.send(message)


def _handles_errors(scope: Scope) -> bool:
    """True when the (innermost) app has a handler of its own for whatever it did not expect."""
    handlers = getattr(scope.get("app"), "exception_handlers", {})
    return 500 in handlers or Exception in handlers


def _literal_routes(app: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in _routes(app):
        path = prefix + (getattr(route, "path", None) or "")
        methods = getattr(route, "methods", None)
        if "{" in path:
            continue
        if methods is None and hasattr(route, "include_in_schema"):
            methods = METHODS  # a Starlette route to a class or an ASGI app takes them all
        if methods:
            yield from ((method, path) for method in methods)
        elif getattr(route, "routes", None):  # a mount
            yield from _literal_routes(route, path)


def _routes(app: Any) -> Iterable[Any]:
    routes: Iterable[Any] = getattr(app, "routes", None) or ()
    # FastAPI keeps included routers as they are and names the routes that they make; versions
    # before that had them all in `routes`. A FastAPI app exists only where it was imported.
    named = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    return routes if named is None else named(routes)
