"""The ASGI app in front of everything: which path is answered by whom.

Prediction routes take the short lane, operators' routes are answered here, and every other path
belongs to the user's app. Each request is guarded, counted and answered in one shape of error.
The front does not know sockets, and of models no more than a `Handle`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from salver.definition import Handle
from salver.online.departure import ClientLeft, Departures
from salver.online.docs import Docs
from salver.online.exchange import CLIENT_LEFT, Exchange
from salver.online.feedback import PATH as FEEDBACK
from salver.online.feedback import FeedbackRoute, Recording
from salver.online.guard import Guard
from salver.online.http_lane import Lane
from salver.online.metrics import HttpMetrics, RouteTally
from salver.online.openapi import Document
from salver.online.predict import PredictLane, PredictRoute
from salver.online.refusals import MethodNotAllowed
from salver.online.user_app import UserApp
from salver.options import ServerSettings
from salver.service import Service

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Answerer = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class _Route:
    """One path of Salver's.

    Attributes:
        methods: Who answers which method.
        tally: Counts the requests.
        yielded: Methods that the user's app answers on this path.
    """

    methods: dict[str, Answerer]
    tally: RouteTally
    yielded: set[str] = field(default_factory=set)


class Front:
    """Serves a service over ASGI.

    Args:
        service: What is served.
        handles: Answers of each exposed deployment, by name.
        settings: API key and limits.
        registry: Where metrics are kept; `/metrics` shows all of it.
        readiness: State of the engine, with the key "ready".
        examples: Executed examples of a deployment, each {"input": ..., "output": ...}.
        recording: Keeps an account of answered rows and of labels; null for none.
    """

    def __init__(
        self,
        service: Service,
        handles: Mapping[str, Handle],
        *,
        settings: ServerSettings,
        registry: CollectorRegistry,
        readiness: Callable[[], dict[str, Any]],
        examples: Callable[[str], list[dict[str, Any]]],
        recording: Recording | None = None,
    ) -> None:
        self._app = UserApp(service.app)
        self._guard = Guard(settings.api_key)
        self._metrics = HttpMetrics(registry, [d.name for d in service.exposed])
        self._registry = registry
        self._readiness = readiness
        self._shutting_down = False
        self._shadowed: list[str] = []
        self._routes: dict[str, _Route] = {}
        departures = Departures()
        document = Document(
            service, self._app, settings, examples, self._shadows, takes_labels=bool(recording)
        )
        literal = self._app.literal_routes()
        for one in service.exposed:
            path = service.route_of(one)
            rows = self._metrics.rows(one.name)
            version = partial(self._version_of, one.name)
            note = None if recording is None else partial(recording.answered, one.name)
            route = PredictRoute(one, handles[one.name], settings, rows, departures, version, note)
            for spelling in (path, path.removesuffix("/")):
                self._add(spelling, {"POST": route}, literal, label=path)
        if recording is not None:
            told = FeedbackRoute(recording, settings)
            for spelling in (FEEDBACK, FEEDBACK.removesuffix("/")):
                self._add(spelling, {"POST": told}, literal, label=FEEDBACK)
        self._add("/metrics", _readable(self._show_metrics), literal)
        docs = Docs(document)
        for path, page in docs.pages():
            # FastAPI's own pages are replaced by ours; those a user wrote are not.
            self._add(path, _readable(page), set() if self._app.is_fastapi else literal)
        # Nobody else's names: the API key rests on what answers here.
        for path, answerer in (("healthz", self._say_alive), ("readyz", self._say_ready)):
            self._add(f"/-/{path}", _readable(answerer), set())
        for path, asset in docs.assets():
            self._add(path, _readable(asset), set(), label="/-/static/{name}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one connection of ASGI: a request or the lifespan; no websockets."""
        if scope["type"] == "lifespan":
            await self._app.lifespan(scope, receive, send)
            return
        started = perf_counter()
        exchange = Exchange(scope, receive, send)
        path, method = scope["path"], scope["method"]
        route = self._routes.get(path)
        if route is not None and method in route.yielded:
            route = None
        self._metrics.in_flight += 1
        try:
            self._guard.check(path, method, exchange.headers)
            if route is None:
                await self._app.serve(exchange)
            elif method in route.methods:
                await route.methods[method](exchange)
            else:
                raise MethodNotAllowed(method, path, {*route.methods, *route.yielded})
        except ClientLeft:
            pass
        except Exception as error:
            if exchange.status:
                raise  # half an answer is out: only closing the connection tells the client
            await exchange.fail(error)
        finally:
            self._metrics.in_flight -= 1
            tally = route.tally if route else self._metrics.route(self._app.template(exchange))
            tally.add(method, exchange.status or CLIENT_LEFT, perf_counter() - started)

    def lanes(self) -> dict[bytes, Lane]:
        """Who answers the usual predictions without ASGI, by request target."""
        return {
            path.encode(): PredictLane(path, answerer, self._guard, self._metrics, route.tally)
            for path, route in self._routes.items()
            if isinstance(answerer := route.methods.get("POST"), PredictRoute)
        }

    @property
    def in_flight(self) -> int:
        """Requests that are being answered now."""
        return self._metrics.in_flight

    def begin_shutdown(self) -> None:
        """Turns readiness off; requests are still answered."""
        self._shutting_down = True

    def shadowed_routes(self) -> list[str]:
        """Routes of Salver's that the user's app answers instead, such as "POST /predict/"."""
        return list(self._shadowed)

    def _shadows(self, method: str, path: str) -> bool:
        return f"{method} {path}" in self._shadowed

    def _add(
        self,
        path: str,
        methods: dict[str, Answerer],
        literal: set[tuple[str, str]],
        label: str | None = None,
    ) -> None:
        if not path:  # the short spelling of a route at the root
            return
        yielded = {method for method, taken in literal if taken == path}
        own = {method: a for method, a in methods.items() if method not in yielded}
        self._shadowed += [f"{m} {path}" for m in methods if m in yielded and m != "HEAD"]
        self._routes[path] = _Route(own, self._metrics.route(label or path), yielded)

    async def _say_alive(self, exchange: Exchange) -> None:
        await exchange.answer_json(200, {"status": "ok"})

    def _version_of(self, name: str) -> str | None:
        found: str | None = self._readiness()["deployments"][name].get("version")
        return found

    async def _say_ready(self, exchange: Exchange) -> None:
        state = self._readiness()
        if self._shutting_down:
            state = {**state, "ready": False, "shutting_down": True}
        await exchange.answer_json(200 if state["ready"] else 503, state)

    async def _show_metrics(self, exchange: Exchange) -> None:
        page = generate_latest(self._registry)
        await exchange.answer(200, page, CONTENT_TYPE_LATEST.encode())


def _readable(answerer: Answerer) -> dict[str, Answerer]:
    return {"GET": answerer, "HEAD": answerer}
