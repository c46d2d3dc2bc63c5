"""What a provider answered, as one of our errors: its status, code and request id are kept, its words never.

Its counts of tokens pass through here too: they are somebody else's word as well.

Called by every provider, the simulated one too, so that one status means one thing whoever sent it.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from service.errors import ProviderFailure, ProviderRateLimited

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:/-]")
_TOO_MANY, _SERVER_ERROR = 429, 500
_WORTH_ANOTHER_TRY = frozenset({408, 409, 429})
_LONGEST_WAIT = 3_600.0
_MOST_TOKENS = 10**8  # of one call: a hundred times the largest context there is

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the JSON decoder raises: not the JSON that is wanted, or none; bytes that are no text; nesting too deep."""


def from_status(
    status: int, *, code: object = None, request_id: str | None = None, retry_after: float | None = None
) -> ProviderFailure:
    """Return the failure that `status` means, whether it came as HTTP status or inside a stream.

    Args:
        status: An HTTP status of 300 or more.
        code: The provider's error code, as it was found in its JSON; everything unsafe in it is replaced.
        request_id: The provider's id of this request.
        retry_after: Seconds that the provider asks to wait.
    """
    make = ProviderRateLimited if status == _TOO_MANY else ProviderFailure
    return make(
        _kind(status),
        provider_status=status,
        provider_code=safe(code),
        request_id=safe(request_id),
        retry_after=retry_after,
        retry_safe=status in _WORTH_ANOTHER_TRY or status >= _SERVER_ERROR,
    )


def _kind(status: int) -> str:
    if status == _TOO_MANY:
        return "429"
    return "5xx" if status >= _SERVER_ERROR else "4xx"


def malformed(request_id: str | None = None) -> ProviderFailure:
    """Return the failure of a stream that was cut or is not what the protocol says: nothing says that it will pass."""
    return ProviderFailure("malformed", request_id=safe(request_id))


def safe(value: object) -> str:
    """Return `value` as a word that may stand in a span: codes and ids, never sentences."""
    return _UNSAFE.sub("_", str(value))[:128] if value is not None else ""


def counted(tokens: int | None) -> int:
    """Return a provider's count of tokens, 0 (not told) for one that cannot be: counters and quotas only go up."""
    return tokens if tokens is not None and 0 <= tokens <= _MOST_TOKENS else 0


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, given as seconds or as an HTTP date (RFC 9110, 10.2.3).

    Args:
        header: The header's value, None if there was none.
        now: Unix seconds.
    """
    if not header:
        return None
    try:
        seconds = float(header) if header.replace(".", "", 1).isdecimal() else _until(header, now)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _until(date: str, now: float) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
