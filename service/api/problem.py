"""Refusals before the stream: true statuses with application/problem+json (RFC 9457)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from service.errors import ForebayError

RETRY_STATUSES = (429, 503)
NO_TRACE = "0" * 32


def problem(error: ForebayError, trace_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
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
    if status in RETRY_STATUSES:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after or 1))))
    if status == 401:  # noqa: PLR2004  (RFC 9110, section 15.5.2, asks for it)
        headers.append((b"www-authenticate", b"Bearer"))
    return status, headers, encoded
