"""Errors of any route as application/problem+json; a count and an id on every response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.api.problem import NO_TRACE, refusal_for
from service.errors import ForebayError, Internal, InvalidRequest, NotFound
from telemetry.catalogue import HTTP_RESPONSES_TOTAL, LOG_BUG

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from fastapi import FastAPI, Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from telemetry.observe import Observer

_REQUEST_ID = "forebay.request_id"  # in the scope
NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405


class Responses:
    """Counts every response by route, method and status, and gives it the trace id as `X-Request-Id`. Pure ASGI.

    A request that is not traced, such as a probe, gets an id of its own; `request_id` is where the layers further in
    find it. The last border too: what nobody foresaw becomes a 500 whose words are ours, and goes no further.
    """

    def __init__(self, app: ASGIApp, observer: Observer, chance: Random) -> None:
        self._app, self._observer, self._chance = app, observer, chance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; look at the start of the response only."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        traced = self._observer.current().trace_id
        scope[_REQUEST_ID] = traced if traced != NO_TRACE else f"{self._chance.getrandbits(128):032x}"

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                nonlocal started
                started = True
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if route != "other" else "other"
                self._observer.inc(HTTP_RESPONSES_TOTAL, route, method, str(message["status"]))
                message["headers"] = [*message["headers"], (b"x-request-id", request_id(scope).encode())]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            self._observer.log(LOG_BUG, exc_info=error)
            if started:
                raise  # the server cuts the connection: a body that is not whole must not look so
            await answer(scope, Internal())(scope, receive, watched)


def request_id(scope: Scope) -> str:
    """Return the id that the client is told: 32 hexadecimal digits."""
    told: str = scope[_REQUEST_ID]
    return told


def answer(scope: Scope, error: ForebayError) -> Response:
    """Return an error as the clients of the path read it: a problem, or OpenAI's shape."""
    status, headers, body = refusal_for(scope["path"], error, request_id(scope))
    response = Response(body, status_code=status)
    response.raw_headers[:] = headers
    return response


def answer_errors(app: FastAPI, endpoints: Iterable[tuple[str, str]]) -> None:
    """Let every error of a route become a problem of ours, and nothing of an exception's words reach a client."""

    def respond(request: Request, error: ForebayError) -> Response:
        return answer(request.scope, error)

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
