"""The FastAPI application: all routes, their errors, their count. Built by the composition root, over open parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.api import chat, openai_compat, ops, sessions
from service.api.handlers import Responses, answer_errors
from telemetry.server import NATIVE_TELEMETRY_OFF, instrument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.chat.parts import Parts
    from service.store import StateStore
    from telemetry.server import Trusts
    from telemetry.setup import Telemetry

ROUTERS = (chat.router, openai_compat.router, sessions.router, ops.router)


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What the settings say of the routes. `trusts`: whose `traceparent` is taken as parent; None for everybody's."""

    version: str
    docs: bool
    metrics_token: str | None
    openai_retrieval: bool
    trusts: Trusts | None


def endpoints() -> tuple[tuple[str, str], ...]:
    """Return every (route, method) there is: the label set of `http_responses_total`."""
    found = [
        (route.path, method)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]
    return tuple(found)


def build_api(
    parts: Parts,
    store: StateStore,
    telemetry: Telemetry,
    readiness: Callable[[], Awaitable[tuple[int, dict[str, Any]]]],
    options: ApiOptions,
) -> FastAPI:
    """Return the application over parts that are open."""
    app = FastAPI(
        title="Forebay",
        version=options.version,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if options.docs else None,
        telemetry=NATIVE_TELEMETRY_OFF,  # type: ignore[arg-type]  # its TypedDict, spelled out in telemetry
    )
    app.state.parts, app.state.store, app.state.telemetry = parts, store, telemetry
    app.state.readiness, app.state.metrics_token = readiness, options.metrics_token
    app.state.openai_retrieval = options.openai_retrieval
    for router in ROUTERS:
        app.include_router(router)
    answer_errors(app, parts.observer)
    app.add_middleware(Responses, observer=parts.observer)
    instrument(app, parts.observer, trusts=options.trusts)
    return app
