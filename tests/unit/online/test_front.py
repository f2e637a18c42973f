from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from serving import Served, Tagger
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from salver import Service

ROW = {"title": "text"}


def served_with(app: Any, **settings: Any) -> Served:
    return Served(Service(Tagger.bind(), app=app), **settings)


def test_alive_says_ok_also_when_not_ready() -> None:
    """The health check tells of the process, not of the models."""
    served = Served()
    served.ready = False
    reply = served.ask("GET", "/-/healthz")
    assert (reply.status, reply.json()) == (200, {"status": "ok"})


def test_readiness_follows_the_engine_and_ends_with_shutdown() -> None:
    """Ready means 200; not ready, or shutting down, 503; the state of all is in the body."""
    served = Served()
    reply = served.ask("GET", "/-/readyz")
    assert (reply.status, reply.json()) == (200, {"ready": True, "deployments": {}})
    served.ready = False
    assert served.ask("GET", "/-/readyz").status == 503
    served.ready = True
    served.front.begin_shutdown()
    reply = served.ask("GET", "/-/readyz")
    assert reply.status == 503
    assert reply.json()["ready"] is False
    assert served.predict(ROW).status == 200


@pytest.mark.parametrize("path", ["/-/healthz", "/-/readyz", "/metrics", "/openapi.json", "/docs"])
def test_pages_answer_head_and_refuse_post(path: str) -> None:
    """HEAD gets the head of GET without its body; POST gets 405."""
    served = Served()
    got, head = served.ask("GET", path), served.ask("HEAD", path)
    assert (got.status, head.status, head.body) == (200, 200, b"")
    assert got.headers.keys() == head.headers.keys()
    refused = served.ask("POST", path)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("given", ["abc", "A.b_c-9", "x" * 64])
def test_a_clients_request_id_is_kept(given: str) -> None:
    """A well-formed id of the client comes back, in the header and in an error."""
    reply = Served().predict({"title": 1}, **{"x-request-id": given})
    assert reply.headers["x-request-id"] == given
    assert reply.json()["error"]["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\n", 'a"', "é", "<script>"])
def test_a_malformed_request_id_is_replaced(given: str) -> None:
    """Any other id is replaced by a new one, and ids are never equal."""
    served = Served()
    ids = [served.predict(ROW, **{"x-request-id": given}).headers["x-request-id"] for _ in "ab"]
    assert given not in ids
    assert ids[0] != ids[1]
    assert all(re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", one) for one in ids)


def test_every_answer_carries_a_request_id() -> None:
    """Pages, refusals and answers of the user's app all carry an id."""
    app = FastAPI()

    @app.get("/mine")
    def mine() -> int:
        return 1

    served = served_with(app)
    for method, path in (("GET", "/mine"), ("GET", "/nope"), ("GET", "/docs"), ("PUT", "/metrics")):
        assert served.ask(method, path).headers["x-request-id"]


def test_unknown_paths_without_an_app_are_404() -> None:
    """A service without an app answers other paths in the one shape of error."""
    reply = Served().ask("GET", "/nope")
    assert (reply.status, reply.code) == (404, "not_found")


def test_a_users_route_wins_over_the_generated_one() -> None:
    """The user's own POST /predict/ answers, and start can say so."""
    app = FastAPI()

    @app.post("/predict/")
    def own() -> str:
        return "mine"

    served = served_with(app)
    assert served.ask("POST", "/predict/", ROW).json() == "mine"
    assert served.ask("POST", "/predict", ROW).json()["results"]
    assert served.front.shadowed_routes() == ["POST /predict/"]


def test_routes_of_included_routers_and_mounts_win_too() -> None:
    """It does not matter how deep in the app the equal route is."""
    router = APIRouter(prefix="/v1")

    @router.post("/predict/")
    def own() -> str:
        return "mine"

    app = FastAPI()
    app.include_router(router)
    inner = FastAPI()
    inner.include_router(router)
    outer = FastAPI()
    outer.mount("/in", inner)
    for prefix, one in (("/v1", app), ("/in/v1", outer)):
        served = Served(Service(Tagger.bind(), app=one, route_prefix=prefix))
        assert served.ask("POST", f"{prefix}/predict/", ROW).json() == "mine"
        assert served.front.shadowed_routes() == [f"POST {prefix}/predict/"]


def test_another_method_on_the_generated_path_is_the_users() -> None:
    """A user's GET on the path stays theirs while POST predicts; a third is refused with both."""
    app = FastAPI()

    @app.get("/predict/")
    def own() -> str:
        return "a form"

    served = served_with(app)
    assert served.ask("GET", "/predict/").json() == "a form"
    assert served.predict(ROW).json()["results"]
    assert served.ask("PUT", "/predict/").headers["allow"] == "GET, POST"
    assert served.front.shadowed_routes() == []


def test_a_catch_all_does_not_take_generated_routes() -> None:
    """A route with parameters, or a mount at the root, is not equal to a generated route."""
    app = FastAPI()

    @app.post("/{path:path}")
    def everything(path: str) -> str:
        return path

    app.mount("/", Starlette(routes=[Route("/x", PlainTextResponse("x"))]))
    served = served_with(app)
    assert served.predict(ROW).json()["results"]
    assert served.ask("POST", "/other", ROW).json() == "other"
    assert served.front.shadowed_routes() == []


def test_the_users_metrics_page_wins() -> None:
    """A user's own /metrics is kept; the health checks cannot be taken."""
    app = Starlette(
        routes=[
            Route("/metrics", PlainTextResponse("mine")),
            Mount("/-", routes=[Route("/healthz", PlainTextResponse("mine"))]),
        ]
    )
    served = served_with(app)
    assert served.ask("GET", "/metrics").body == b"mine"
    assert served.ask("GET", "/-/healthz").json() == {"status": "ok"}
    assert served.front.shadowed_routes() == ["GET /metrics"]


def test_a_key_is_asked_for_everywhere_but_at_the_health_checks() -> None:
    """Without the key nothing but the two health checks answers, not even 404."""
    served = served_with(FastAPI(), api_key="s3cret")
    for path in ("/predict/", "/docs", "/openapi.json", "/metrics", "/nope", "/-/static/x"):
        reply = served.ask("GET", path)
        assert (reply.status, reply.code) == (401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert b"s3cret" not in reply.body
    assert served.ask("GET", "/-/healthz").status == 200
    assert served.ask("GET", "/-/readyz").status == 200
    assert served.predict(ROW, authorization="Bearer s3cret").status == 200
    assert served.predict(ROW, **{"x-api-key": "s3cret"}).status == 200


def test_pages_of_other_sites_may_not_predict() -> None:
    """A browser page of another origin gets 403; the same origin, and reading, are served."""
    served = Served()
    foreign = served.predict(ROW, origin="http://evil.test")
    assert (foreign.status, foreign.code) == (403, "origin_not_allowed")
    assert served.handle.asked == []
    assert served.predict(ROW, origin="http://testserver").status == 200
    assert served.ask("GET", "/-/readyz", headers={"origin": "http://evil.test"}).status == 200


def test_half_an_answer_closes_the_connection() -> None:
    """When an app fails after its head was sent, the exception reaches the server, which closes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        served_with(app).ask("GET", "/")


def test_requests_are_counted_by_route_method_and_status() -> None:
    """Counts bear templates, never paths as they came; unknown ones share a label."""
    app = FastAPI()

    @app.get("/items/{item}")
    def item(item: str) -> str:
        return item

    router = APIRouter(prefix="/deep")

    @router.get("/{one}")
    def deep(one: str) -> str:
        return one

    app.include_router(router)
    inner = FastAPI()
    inner.get("/leaf/{x}")(item)
    app.mount("/in", inner)
    served = served_with(app)
    for path in ("/items/1", "/items/2", "/deep/3", "/nope/1", "/nope/2"):
        served.ask("GET", path)
    served.ask("BREW", "/nope/3")
    served.predict(ROW)
    served.ask("POST", "/predict", {"title": 1})

    def count(method: str, route: str, status: int) -> float | None:
        labels = {"method": method, "route": route, "status": str(status)}
        return served.metric("salver_http_requests_total", **labels)

    assert count("GET", "/items/{item}", 200) == 2
    assert count("GET", "/deep/{one}", 200) == 1
    assert count("GET", "(unmatched)", 404) == 2
    assert count("(other)", "(unmatched)", 404) == 1
    assert count("POST", "/predict/", 200) == 1
    assert count("POST", "/predict/", 422) == 1
    duration = "salver_http_request_duration_seconds_count"
    assert served.metric(duration, route="/predict/") == 2
    assert served.front.in_flight == 0


def test_the_metrics_page_shows_the_registry() -> None:
    """The page is Prometheus text, with the request that reads it in flight."""
    served = Served()
    served.predict([ROW, {"title": "nan"}, {}])
    page = served.ask("GET", "/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    for line in (
        "salver_http_requests_in_flight 1.0",
        'salver_rows_total{deployment="Tagger",outcome="ok"} 2.0',
        'salver_rows_total{deployment="Tagger",outcome="error"} 1.0',
        'salver_predictions_total{deployment="Tagger",prediction="nlp"} 1.0',
        'salver_predictions_total{deployment="Tagger",prediction="other"} 1.0',
        'salver_abstentions_total{deployment="Tagger"} 1.0',
    ):
        assert line in page.body.decode().splitlines()
