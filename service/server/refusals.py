"""Answers to requests that never reach the application, as the clients of the path read errors.

Called by the protocol alone: what it refuses has no valid request to hand to the application.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from urllib.parse import unquote

import httptools

from service.errors import Cause, Code

OnRefused = Callable[[str, str, int], str]
"""`(method, path, status) -> trace id`: called once for each refusal, before it is sent, so that the application counts
it like its own. Method and path are as far as they were read, the path as a scope has it, maybe empty, never checked:
not for a label as they are. The answer is the trace id to tell the client, or an empty string. It must not raise."""

OnCut = Callable[[str, str, Cause], None]
"""`(method, path, cause)`: called for each request that was cut off within its body, or while it waited behind another,
so that the application, which never saw it, counts it. What holds for `OnRefused` holds here."""

_REFUSALS = {
    HTTPStatus.BAD_REQUEST: (Code.INVALID_REQUEST, "The request is not valid", "This is not HTTP/1.1 as we read it."),
    HTTPStatus.REQUEST_TIMEOUT: (Code.TIMEOUT, "The request took too long", "The request did not arrive in time."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (Code.TOO_LARGE, "The request is too large", "The body is over its limit."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        Code.TOO_LARGE,
        "The request is too large",
        "The headers are over their limit.",
    ),
}


def not_counted(_method: str, _path: str, _status: int) -> str:
    """The `OnRefused` of a server whose application does not count."""
    return ""


def cut_not_counted(_method: str, _path: str, _cause: Cause) -> None:
    """The `OnCut` of such a server."""


def path_of(url: bytes) -> str:
    """Return the path as a scope would have it: without the host of an absolute form, unquoted; "" if it is none."""
    try:
        path: bytes | None = httptools.parse_url(url).path
    except httptools.HttpParserInvalidURLError:
        return ""
    return unquote((path or b"").decode("latin-1"))


def refusal(status: HTTPStatus, path: str, trace_id: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole response that refuses a request: status line, headers, error.

    Args:
        status: one of 400, 408, 413, 431.
        path: of the request, as far as it was read.
        trace_id: 32 hex digits, or empty for none.
        headers: sent before ours (the server's default headers, such as Date).
    """
    kind, body = _in_openais_shape(status) if path.startswith("/v1/") else _problem(status, trace_id)
    request_id = [(b"x-request-id", trace_id.encode())] if trace_id else []
    lines = [f"HTTP/1.1 {int(status)} {status.phrase}".encode()]
    lines += [
        name + b": " + value
        for name, value in [
            *headers,
            *request_id,
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
    ]
    return b"\r\n".join([*lines, b"", body])


def _problem(status: HTTPStatus, trace_id: str) -> tuple[bytes, bytes]:
    """Return a problem (RFC 9457), its type first."""
    code, title, detail = _REFUSALS[status]
    problem = {"type": "about:blank", "title": title, "status": int(status), "code": code.value, "detail": detail}
    if trace_id:
        problem["trace_id"] = trace_id
    return b"application/problem+json", json.dumps(problem).encode()


def _in_openais_shape(status: HTTPStatus) -> tuple[bytes, bytes]:
    """Return an error as the SDKs that exist read it, its type first; each status here is the client's doing."""
    code, _, detail = _REFUSALS[status]
    error = {"message": detail, "type": "invalid_request_error", "param": None, "code": code.value}
    return b"application/json", json.dumps({"error": error}).encode()
