"""One SERVER span per request of a FastAPI application, by OpenTelemetry's own instrumentation.

Two thin layers, one outside of it and one inside, correct what it cannot be told: whose `traceparent` is believed, that
query strings and baggage are not recorded, and that the span ends with the request and not with the last byte, so that
the outcome and the clean-up are on it. Bodies go past it: a stream pays for its start only.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.observe import Observer, remote_span

# For FastAPI(telemetry=…). Its own telemetry is on by default, and beside this one it makes a second SERVER span.
NATIVE_TELEMETRY_OFF = {"tracing": False, "metrics": False, "logs": False}
OPS_ROUTES = r"^\w+://[^/]*/(metrics|healthz|readyz)$"

Trusts = Callable[[Scope], Awaitable[bool]]

_TRACE_HEADERS = (b"traceparent", b"tracestate")
_BEHIND = "forebay.behind"  # in the scope that the instrumentation sees: the real scope and the server's `send`
_LINK = "forebay.link"


def instrument(app: FastAPI, observer: Observer, *, trusts: Trusts | None = None) -> None:
    """Give every request of `app` but the operational ones a SERVER span. Call it before the first request.

    Args:
        app: made with `telemetry=NATIVE_TELEMETRY_OFF`.
        observer: makes the spans.
        trusts: tells whether the sender of a `traceparent` may be the parent; if not, it becomes a link. It is asked
            only when there is one and must not raise. None trusts everybody: for development.
    """
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")  # read once, at the first instrumentation
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: _with_inside(build())  # type: ignore[method-assign]  # as the library does
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=observer.tracer_provider,
        meter_provider=NoOpMeterProvider(),  # our metrics are the catalogue's
        server_request_hook=_add_link,
        excluded_urls=OPS_ROUTES,
        exclude_spans=["send", "receive"],
    )
    instrumented = app.build_middleware_stack
    app.build_middleware_stack = lambda: _Outside(instrumented(), trusts)  # type: ignore[method-assign]  # likewise


class _Outside:
    """Shows the instrumentation a scope without what it must not see."""

    def __init__(self, app: ASGIApp, trusts: Trusts | None) -> None:
        self.app = app  # by this name FastAPI finds the instrumentation further in, and keeps its own quiet
        self._trusts = trusts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        shown = {**scope, "query_string": b"", _BEHIND: (scope, send)}
        shown["headers"] = [pair for pair in scope["headers"] if pair[0] != b"baggage"]
        traced = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_HEADERS}
        if traced and not (self._trusts is None or await self._trusts(scope)):
            shown["headers"] = [pair for pair in shown["headers"] if pair[0] not in _TRACE_HEADERS]
            shown[_LINK] = remote_span(traced)
        await self.app(shown, receive, send)


class _Inside:
    """Gives the application its real scope, and lets everything after the response's start pass the instrumentation."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _BEHIND not in scope:
            await self.app(scope, receive, send)
            return
        real_scope, past = scope[_BEHIND]

        async def send_start_there(message: Message) -> None:
            await (send if message["type"] == "http.response.start" else past)(message)

        await self.app(real_scope, receive, send_start_there)


def _with_inside(stack: ASGIApp) -> ASGIApp:
    if not isinstance(stack, ServerErrorMiddleware):
        raise TypeError(
            f"Starlette's outermost middleware is a {type(stack).__qualname__}: the instrumentation is silent"
        )
    stack.app = _Inside(stack.app)
    return stack


def _add_link(span: trace.Span, scope: dict[str, Any]) -> None:
    if (remote := scope.get(_LINK)) is not None:
        span.add_link(remote)
