"""Answers to requests that never reach the application, as `application/problem+json` (RFC 9457).

Called by the protocol alone: what it refuses has no valid request to hand to the application.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus

from service.errors import Code

OnRefused = Callable[[str, str, int], str]
"""`(method, path, status) -> trace id`: called once for each refusal, before it is sent, so that the application counts
it like its own. Method and path are as far as they were read, maybe empty, never checked: not for a label as they are.
The answer is the trace id to tell the client, or an empty string. It must not raise."""

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


def refusal(status: HTTPStatus, trace_id: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole response that refuses a request: status line, headers, problem.

    Args:
        status: one of 400, 408, 413, 431.
        trace_id: 32 hex digits, or empty for none.
        headers: sent before ours (the server's default headers, such as Date).
    """
    code, title, detail = _REFUSALS[status]
    problem = {"type": "about:blank", "title": title, "status": int(status), "code": code.value, "detail": detail}
    request_id = []
    if trace_id:
        problem["trace_id"] = trace_id
        request_id = [(b"x-request-id", trace_id.encode())]
    body = json.dumps(problem).encode()
    lines = [f"HTTP/1.1 {int(status)} {status.phrase}".encode()]
    lines += [
        name + b": " + value
        for name, value in [
            *headers,
            *request_id,
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
    ]
    return b"\r\n".join([*lines, b"", body])
