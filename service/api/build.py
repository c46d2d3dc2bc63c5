"""The FastAPI application: all routes, their errors, their count. Built by the composition root, over open parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from service.api import approvals, chat, jobs, openai_compat, ops, pages, sessions
from service.api.edges import Doorman
from service.api.handlers import Responses, answer_errors
from service.api.openapi import describe
from service.chat.plan import INPUT_VALIDATION
from telemetry import catalogue as rows
from telemetry.server import NATIVE_TELEMETRY_OFF, instrument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.chat.parts import Parts
    from service.errors import Cause
    from service.jobs.desk import Desk
    from service.jobs.followers import Followers
    from service.store import StateStore
    from telemetry.observe import Observer
    from telemetry.server import Trusts
    from telemetry.setup import Telemetry

ROUTERS = (chat.router, openai_compat.router, sessions.router, jobs.router, approvals.router, ops.router)
PAGES = (pages.playground, pages.docs, pages.files)  # some or all of them, as the settings say

# What a browser of another origin may send beside what every page may, and may read of an answer.
CORS_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Forebay-Debug", "X-Request-Timeout-Ms",
    "X-Session-Id", "traceparent", "tracestate",
)  # fmt: skip
CORS_EXPOSED = (
    "X-Request-Id", "Retry-After", "Idempotent-Replayed", "Location",
    "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What the settings say of the routes.

    `hosts`: Host headers that are served, () for any. `ops_port`: the port that alone has the operational routes, None
    without one. `trace_url`: where a trace is looked at, with `{trace_id}` in it, "" for nowhere.
    """

    version: str
    docs: bool
    playground: bool
    metrics_token: str | None
    openai_retrieval: bool
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    ops_port: int | None = None
    trace_url: str = ""


def endpoints() -> tuple[tuple[str, str], ...]:
    """Return every (route, method) there is: the label set of `http_responses_total`."""
    found = [
        (route.path, method)
        for router in (*ROUTERS, *PAGES)
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]
    return tuple(found)


def count_refused(observer: Observer, method: str, path: str, reason: str = "invalid") -> None:
    """Count a request that was refused before its route saw it, if its route's requests are counted."""
    if _is_counted(method, path):
        observer.inc(rows.REQUESTS_STARTED_TOTAL, path)
        observer.inc(rows.REQUESTS_TOTAL, path, "rejected")
        observer.inc(rows.REJECTIONS_TOTAL, path, reason)


def count_cut(observer: Observer, method: str, path: str, cause: Cause) -> None:
    """Count a request that was cut off before it began, if its route's requests are counted."""
    if _is_counted(method, path):
        observer.inc(rows.REQUESTS_STARTED_TOTAL, path)
        observer.inc(rows.REQUESTS_TOTAL, path, "cancelled")
        observer.inc(rows.CANCELLATIONS_TOTAL, path, cause, INPUT_VALIDATION.name)


def _is_counted(method: str, path: str) -> bool:
    return path in rows.COUNTED_ROUTES and (path, method) in endpoints() and method == "POST"


def build_api(
    parts: Parts,
    store: StateStore,
    desk: Desk,
    followers: Followers,
    telemetry: Telemetry,
    readiness: Callable[[], Awaitable[tuple[int, dict[str, Any]]]],
    options: ApiOptions,
    *,
    trusts: Trusts | None = None,
) -> FastAPI:
    """Return the application over parts that are open. `trusts`: whose `traceparent` is believed; None: everybody's."""
    app = FastAPI(
        title="Forebay",
        version=options.version,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if options.docs else None,
        telemetry=NATIVE_TELEMETRY_OFF,  # type: ignore[arg-type]  # its TypedDict, spelled out in telemetry
    )
    app.openapi = partial(describe, app)  # type: ignore[method-assign]  # as FastAPI documents it
    app.state.parts, app.state.store, app.state.telemetry = parts, store, telemetry
    app.state.jobs, app.state.followers = desk, followers
    app.state.readiness, app.state.metrics_token = readiness, options.metrics_token
    app.state.openai_retrieval = options.openai_retrieval
    app.state.page_settings = pages.PageSettings(options.version, options.docs, options.trace_url)
    for router in (*ROUTERS, *_pages(options)):
        app.router.routes.extend(router.routes)  # `include_router` would look at every router twice for each request
    answer_errors(app, endpoints())
    _put_on_edges(app, parts, options)
    instrument(app, parts.observer, trusts=trusts)
    return app


def _pages(options: ApiOptions) -> list[Any]:
    shown = [(pages.playground, options.playground), (pages.docs, options.docs)]
    routers = [router for router, wanted in shown if wanted]
    return [*routers, pages.files] if routers else []


def _put_on_edges(app: FastAPI, parts: Parts, options: ApiOptions) -> None:
    """Put the layers around the routes, the innermost first."""
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_EXPOSED,
        )
    app.add_middleware(
        Doorman,
        on_refused=partial(count_refused, parts.observer),
        hosts=options.hosts,
        ops_port=options.ops_port,
    )
    app.add_middleware(Responses, observer=parts.observer, chance=parts.world.random)
