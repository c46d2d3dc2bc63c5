"""The header Idempotency-Key, read the same way by every route that takes it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from service.errors import InvalidRequest
from service.ports import Once

if TYPE_CHECKING:
    from service.api.wire import Wire

LONGEST_KEY = 255  # characters
REPLAYED = (b"idempotent-replayed", b"true")


def once_of(wire: Wire, route: str, body: bytes) -> Once | None:
    """Return the key of a request with the hash of its body, None without one; raise InvalidRequest for a bad key."""
    key = wire.header(b"idempotency-key")
    if key is None:
        return None
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"Idempotency-Key: must be 1 to {LONGEST_KEY} printable ASCII characters")
    return Once(route, key, hashlib.sha256(body).hexdigest())
