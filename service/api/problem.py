"""Refusals before the stream: true statuses with application/problem+json (RFC 9457)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from service.api.openai_shapes import error_body

if TYPE_CHECKING:
    from service.errors import ForebayError

_RETRY_STATUSES = (429, 503)
NO_TRACE = "0" * 32


Refusal = tuple[int, list[tuple[bytes, bytes]], bytes]  # status, headers, body


def refusal_for(path: str, error: ForebayError, trace_id: str) -> Refusal:
    """Return an error as the clients of `path` read it: a problem, or under /v1 OpenAI's shape."""
    status, headers, body = problem(error, trace_id)
    if not path.startswith("/v1/"):
        return status, headers, body
    body = msgspec.json.encode(error_body(error))
    about = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return status, [*about, *(pair for pair in headers if pair[0] not in (b"content-type", b"content-length"))], body


def problem(error: ForebayError, trace_id: str) -> Refusal:
    """Return status, headers and body of a refusal; `Retry-After` in whole seconds, at least 1, for 429 and 503."""
    status = error.http_status
    body = {
        "type": "about:blank",
        "title": error.title,
        "status": status,
        "code": error.code,
        "detail": error.detail,
        "trace_id": None if trace_id == NO_TRACE else trace_id,
    }
    encoded = msgspec.json.encode(body)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(encoded)),
        (b"cache-control", b"no-store"),
    ]
    headers += retry_after(status, error.retry_after)
    if status == 401:  # noqa: PLR2004  (RFC 9110, section 15.5.2, asks for it)
        headers.append((b"www-authenticate", b"Bearer"))
    return status, headers, encoded


def retry_after(status: int, seconds: float | None) -> list[tuple[bytes, bytes]]:
    """Return the header that says when to come again, where `status` asks for one; `seconds` is None if not known."""
    return [(b"retry-after", b"%d" % max(1, math.ceil(seconds or 1)))] if status in _RETRY_STATUSES else []
