"""The pages that show the OpenAPI document, with every asset served from here.

Swagger UI and ReDoc come from the installed package `fastapi_offline`; its code is not imported.
A strict Content-Security-Policy keeps the pages from loading or calling anything else. This
module does not know what the document says.
"""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from salver.errors import ConfigError
from salver.online.exchange import Exchange, Header
from salver.online.openapi import Document

Answerer = Callable[[Exchange], Awaitable[None]]

ASSETS = "/-/static/"
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
}
_PACKAGED = ("favicon.png", "redoc.standalone.js", "swagger-ui-bundle.js", "swagger-ui.css")
# Nothing from elsewhere, no inline script. ReDoc alone writes its styles into the page, and runs
# its search in a worker made from a blob; its maker's logo, from a CDN, stays hidden.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REDOC_POLICY = _POLICY.replace(
    b"style-src 'self'", b"style-src 'self' 'unsafe-inline'; worker-src blob:"
)
_PAGE_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
_ASSET_HEADERS: tuple[Header, ...] = (
    (b"cache-control", b"max-age=3600"),
    (b"x-content-type-options", b"nosniff"),
)
_START_SWAGGER = b"""\
"use strict";
const box = document.getElementById("swagger-ui");
const settings = JSON.parse(box.dataset.settings);
if (settings.oauth2RedirectUrl) {
  settings.oauth2RedirectUrl = new URL(settings.oauth2RedirectUrl, location.href).href;
}
const page = SwaggerUIBundle({
  ...settings, domNode: box, presets: [SwaggerUIBundle.presets.apis],
});
if (settings.initOAuth) {
  page.initOAuth(settings.initOAuth);
}
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/png" href="{assets}favicon.png">
{head}
</head>
<body>
{body}
</body>
</html>
"""


class Docs:
    """Serves the document, its pages and their assets.

    Args:
        document: What is shown.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._app: Any = document.app.app if document.app.is_fastapi else None

    def pages(self) -> Iterator[tuple[str, Answerer]]:
        """Path and answerer of the document and of each page that the app has not turned off."""
        url = self._document.url
        if url is None:
            return
        yield url, self._show_document
        docs_url = self._app.docs_url if self._app else "/docs"
        if docs_url:
            yield docs_url, _page(self._swagger(docs_url, url), _POLICY)
        redoc_url = self._app.redoc_url if self._app else "/redoc"
        if redoc_url:
            yield redoc_url, _page(self._redoc(redoc_url, url), _REDOC_POLICY)

    def assets(self) -> Iterator[tuple[str, Answerer]]:
        """Path and answerer of each asset."""
        folder = _static_folder()
        yield f"{ASSETS}start-swagger.js", _asset(".js", lambda: _START_SWAGGER)
        for name in _PACKAGED:
            path = folder / name
            yield ASSETS + name, _asset(path.suffix, path.read_bytes)

    async def _show_document(self, exchange: Exchange) -> None:
        await exchange.answer(200, self._document.as_bytes())

    def _swagger(self, page: str, url: str) -> str:
        settings: dict[str, Any] = {
            "layout": "BaseLayout",
            "deepLinking": True,
            "validatorUrl": None,  # else the document's address would go to a public checker
            **((self._app and self._app.swagger_ui_parameters) or {}),
            "url": _relative(page, url),
        }
        redirect = self._app and self._app.swagger_ui_oauth2_redirect_url
        if redirect:
            settings["oauth2RedirectUrl"] = _relative(page, redirect)
            settings["initOAuth"] = self._app.swagger_ui_init_oauth
        assets = _relative(page, ASSETS)
        shown = html.escape(orjson.dumps(settings, default=str).decode())
        return _PAGE.format(
            title=html.escape(self._document.title),
            assets=assets,
            head=f'<link rel="stylesheet" href="{assets}swagger-ui.css">',
            body=f'<div id="swagger-ui" data-settings="{shown}"></div>\n'
            f'<script src="{assets}swagger-ui-bundle.js"></script>\n'
            f'<script src="{assets}start-swagger.js"></script>',
        )

    def _redoc(self, page: str, url: str) -> str:
        assets = _relative(page, ASSETS)
        return _PAGE.format(
            title=html.escape(self._document.title),
            assets=assets,
            head="<style>body { margin: 0; }</style>",
            body=f'<redoc spec-url="{html.escape(_relative(page, url))}"></redoc>\n'
            f'<script src="{assets}redoc.standalone.js"></script>',
        )


def _relative(page: str, path: str) -> str:
    """`path` as seen from `page`, so that a proxy may serve both under a prefix."""
    return "../" * (page.count("/") - 1) + path.removeprefix("/")


def _page(content: str, policy: bytes) -> Answerer:
    body = content.encode()
    headers = (*_PAGE_HEADERS, (b"content-security-policy", policy))

    async def show(exchange: Exchange) -> None:
        await exchange.answer(200, body, b"text/html; charset=utf-8", headers)

    return show


def _asset(suffix: str, read: Callable[[], bytes]) -> Answerer:
    """Answers with a file, read when first asked for and kept."""
    kept: list[bytes] = []

    async def show(exchange: Exchange) -> None:
        if not kept:
            kept.append(read())
        await exchange.answer(200, kept[0], _TYPES[suffix], _ASSET_HEADERS)

    return show


def _static_folder() -> Path:
    # Found without importing the package, which would import FastAPI for a service without it.
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "The package fastapi-offline, which holds the assets of /docs, is not installed. "
            "Run: pip install fastapi-offline"
        )
    return Path(found.submodule_search_locations[0]) / "static"
