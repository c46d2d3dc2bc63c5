"""The pages for people: GET / the playground, GET /docs, and the files that they are made of, all from service/web.

Nothing on them comes from another host, and the Content-Security-Policy holds them to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from typing import Any

from fastapi import APIRouter, Request, Response

from service.errors import NotFound

# Scripts, styles and connections: ours alone. No framing, no forms, no plug-ins, nothing inline.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # kept, and asked for again: after an upgrade the files fit together
}
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What the pages know of the settings; public, as they are."""

    version: str
    docs: bool
    trace_url: str


playground = APIRouter(include_in_schema=False)
docs = APIRouter(include_in_schema=False)
files = APIRouter(include_in_schema=False)


@playground.get("/")
def index() -> Response:
    """Serve the playground."""
    return _page("index.html", "text/html")


@docs.get("/docs")
def reference() -> Response:
    """Serve the reference of the routes, made in the browser from /openapi.json."""
    return _page("docs.html", "text/html")


@files.get("/web/settings.json")
def settings(request: Request) -> dict[str, Any]:
    """Tell the playground where traces are looked at, and what else is served."""
    given: PageSettings = request.app.state.page_settings
    return {"version": given.version, "docs": given.docs, "trace_url": given.trace_url}


@files.get("/web/{name}")
def file(name: str) -> Response:
    """Serve a file of the pages."""
    suffix = name[name.rfind(".") :] if "." in name else ""
    if suffix not in TYPES or name not in _names():
        raise NotFound("No such route")
    return _page(name, TYPES[suffix])


def _page(name: str, content_type: str) -> Response:
    return Response(_content(name), media_type=content_type, headers=HEADERS)


@cache
def _names() -> frozenset[str]:
    return frozenset(entry.name for entry in resources("service.web").iterdir())


@cache
def _content(name: str) -> bytes:
    return (resources("service.web") / name).read_bytes()
