"""Errors of any route as application/problem+json; a count and an id on every response."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.api.openai_shapes import error_body
from service.api.problem import problem
from service.errors import ForebayError, Internal, InvalidRequest, NotFound
from telemetry.catalogue import HTTP_RESPONSES_TOTAL, LOG_BUG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI, Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from telemetry.observe import Observer

NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405


class Responses:
    """Counts every response by route, method and status, and gives it the trace id as `X-Request-Id`. Pure ASGI.

    The last border too: what nobody foresaw becomes a 500 whose words are ours, and goes no further.
    """

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app, self._observer = app, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; look at the start of the response only."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                nonlocal started
                started = True
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if route != "other" else "other"
                self._observer.inc(HTTP_RESPONSES_TOTAL, route, method, str(message["status"]))
                request_id = self._observer.current().trace_id.encode()
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            self._observer.log(LOG_BUG, exc_info=error)
            if started:
                raise  # the server cuts the connection: a body that is not whole must not look so
            await answer(scope["path"], Internal(), self._observer.current().trace_id)(scope, receive, watched)


def answer(path: str, error: ForebayError, trace_id: str) -> Response:
    """Return an error as the clients of `path` read it: a problem, or OpenAI's shape."""
    status, headers, body = problem(error, trace_id)
    if path.startswith("/v1/"):
        body = msgspec.json.encode(error_body(error))
        about = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers = [*about, *(pair for pair in headers if pair[0] not in (b"content-type", b"content-length"))]
    response = Response(body, status_code=status)
    response.raw_headers[:] = headers
    return response


def answer_errors(app: FastAPI, observer: Observer, endpoints: Iterable[tuple[str, str]]) -> None:
    """Let every error of a route become a problem of ours, and nothing of an exception's words reach a client."""

    def respond(request: Request, error: ForebayError) -> Response:
        return answer(request.url.path, error, observer.current().trace_id)

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, ForebayError)  # noqa: S101  (types: registered for it)
        return respond(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  (types: registered for it)
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        return respond(request, InvalidRequest(f"{field}: not valid"))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  (types: registered for it)
        if error.status_code == NOT_FOUND:
            return respond(request, NotFound("No such route"))
        response = respond(request, InvalidRequest("Not understood", status=error.status_code))
        response.headers.update(error.headers or {})
        if error.status_code == METHOD_NOT_ALLOWED:
            path = getattr(request.scope.get("route"), "path", "")
            # Of all routes with this path: Starlette names the methods of the first alone.
            allowed = sorted(method for known, method in endpoints if known == path)
            response.headers["allow"] = ", ".join(allowed) or response.headers.get("allow", "")
        return response

    app.add_exception_handler(ForebayError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
