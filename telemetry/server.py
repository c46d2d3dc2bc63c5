"""One SERVER span per request of a FastAPI application, by OpenTelemetry's own instrumentation.

Two thin layers, one outside of it and one inside, correct what it cannot be told: whose `traceparent` is believed, that
query strings and baggage are not recorded, and that the span ends with the request and not with the last byte, so that
the outcome and the clean-up are on it. Bodies go past it: a stream pays for its start only. A request of a trace that
is not sampled goes past it altogether, with a span that says who it is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from fastapi import FastAPI
from opentelemetry import context, trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.head_sampling import HeadSampler
from telemetry.observe import Observer, remote_span

# For FastAPI(telemetry=…). Its own telemetry is on by default, and beside this one it makes a second SERVER span.
NATIVE_TELEMETRY_OFF = {"tracing": False, "metrics": False, "logs": False}
OPS_ROUTES = frozenset({"/metrics", "/healthz", "/readyz"})

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
    heads = HeadSampler(observer.tracer_provider)  # before the instrumentation takes its tracer
    plain = cache(app.build_middleware_stack)
    app.build_middleware_stack = lambda: _with_inside(plain())  # type: ignore[method-assign]  # as the library does
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=observer.tracer_provider,
        meter_provider=NoOpMeterProvider(),  # our metrics are the catalogue's
        server_request_hook=_add_link,
        excluded_urls="",  # or the environment would choose
        exclude_spans=["send", "receive"],
    )
    instrumented = app.build_middleware_stack
    app.build_middleware_stack = lambda: _Outside(instrumented(), plain(), heads, trusts)  # type: ignore[method-assign]  # likewise


class _Outside:
    """Shows the instrumentation what it is for, without what it must not see; the rest goes past it."""

    def __init__(self, app: ASGIApp, plain: ASGIApp, heads: HeadSampler, trusts: Trusts | None) -> None:
        self.app = app  # by this name FastAPI finds the instrumentation further in, and keeps its own quiet
        self._plain = plain
        self._heads = heads
        self._trusts = trusts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPS_ROUTES:
            await self._plain(scope, receive, send)
            return
        sender = _sender(scope)
        believed = sender is not None and (self._trusts is None or await self._trusts(scope))
        unseen = self._heads.unseen(sender if believed else None)
        if unseen is None:
            await self.app(_shown(scope, send, sender, believed=believed), receive, send)
            return
        token = context.attach(trace.set_span_in_context(unseen))
        try:
            await self._plain(scope, receive, send)
        finally:
            context.detach(token)


def _sender(scope: Scope) -> trace.SpanContext | None:
    """Return the span that the request says it comes from."""
    traced: dict[str, list[str]] = {}  # of several the instrumentation takes the first `traceparent`, all of the state
    for name, value in scope["headers"]:
        if name in _TRACE_HEADERS:
            traced.setdefault(name.decode(), []).append(value.decode("latin-1"))
    return remote_span(traced) if traced else None


def _shown(scope: Scope, send: Send, sender: trace.SpanContext | None, *, believed: bool) -> Scope:
    """Return the scope without what the instrumentation must not see. The span of a stranger becomes a link."""
    hidden = (b"baggage",) if believed else (b"baggage", *_TRACE_HEADERS)
    headers = [pair for pair in scope["headers"] if pair[0] not in hidden]
    link = None if believed else sender
    return {**scope, "headers": headers, "query_string": b"", _BEHIND: (scope, send), _LINK: link}


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
    return ServerErrorMiddleware(_Inside(stack.app), handler=stack.handler, debug=stack.debug)


def _add_link(span: trace.Span, scope: dict[str, Any]) -> None:
    if (stranger := scope.get(_LINK)) is not None:
        span.add_link(stranger)
