from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI
from serving import Served, Tagger
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from salver import Service


def served_with(app: Any) -> Served:
    return Served(Service(Tagger.bind(), app=app))


def references(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', page)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_load_from_here_alone(path: str) -> None:
    """Every script, style and picture of a page is served, and a strict policy holds the page."""
    served = Served()
    reply = served.ask("GET", path)
    page = reply.body.decode()
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert ("unsafe" in policy) == (path == "/redoc")
    assert "http" not in page
    assert "<script>" not in page
    for reference in references(page):
        asset = served.ask("GET", f"/{reference}")
        assert asset.status == 200
        assert asset.headers["cache-control"] == "max-age=3600"
        assert asset.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("favicon.png", "image/png"),
    ],
)
def test_assets_have_their_type(name: str, kind: str) -> None:
    """An asset says what it is."""
    assert Served().ask("GET", f"/-/static/{name}").headers["content-type"] == kind


@pytest.mark.parametrize("name", ["", "x.js", "../core.py", "..%2fcore.py", "/etc/passwd"])
def test_nothing_but_the_assets_is_served(name: str) -> None:
    """Any other name below the assets' path is 404."""
    assert Served().ask("GET", f"/-/static/{name}").status == 404


def test_the_users_places_are_kept() -> None:
    """Pages move to where the user's FastAPI app has them, and find the document from there."""
    app = FastAPI(docs_url="/a/b/docs", redoc_url=None, openapi_url="/schema.json", title="<Mine>")
    served = served_with(app)
    page = served.ask("GET", "/a/b/docs").body.decode()
    assert "&quot;url&quot;:&quot;../../schema.json&quot;" in page
    assert "<title>&lt;Mine&gt;</title>" in page
    assert all(reference.startswith("../../-/static/") for reference in references(page))
    assert "/predict/" in served.ask("GET", "/schema.json").json()["paths"]
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert served.ask("GET", path).json() == {"detail": "Not Found"}


@pytest.mark.parametrize("options", [{"openapi_url": None}, {"docs_url": None, "redoc_url": None}])
def test_what_the_user_turned_off_stays_off(options: dict[str, Any]) -> None:
    """No document means no pages, and a page can be turned off alone."""
    served = served_with(FastAPI(**options))
    assert served.ask("GET", "/docs").status == 404
    assert served.ask("GET", "/redoc").status == 404
    assert served.ask("GET", "/openapi.json").status == (404 if "openapi_url" in options else 200)


def test_a_users_own_page_wins() -> None:
    """An app that is no FastAPI app keeps its own /docs."""
    served = served_with(Starlette(routes=[Route("/docs", PlainTextResponse("mine"))]))
    assert served.ask("GET", "/docs").body == b"mine"
    assert served.ask("GET", "/redoc").status == 200


def test_the_users_settings_of_swagger_are_kept() -> None:
    """Parameters that the app gives to Swagger UI reach it."""
    app = FastAPI(swagger_ui_parameters={"docExpansion": "none"})
    page = served_with(app).ask("GET", "/docs").body.decode()
    assert "&quot;docExpansion&quot;:&quot;none&quot;" in page
    assert "&quot;oauth2RedirectUrl&quot;:&quot;docs/oauth2-redirect&quot;" in page
