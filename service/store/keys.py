"""API keys: made, taken apart, compared. Only a hash ever reaches the database.

A key is `fb_<id>_<secret>`. The id finds the row, the secret proves it. One plain SHA-256 is enough, since the secret
is random and of 256 bits: there is nothing to guess that a slow hash would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from service.store.values import StoredKey

if TYPE_CHECKING:
    from collections.abc import Iterable

DEMO_ID = "demo"
DEMO_ROLES = frozenset({"analyst", "approver", "developer"})

_PREFIX = "fb"
_ID_BYTES = 8
_SECRET_BYTES = 32


def new_key(tenant: str, user: str, roles: Iterable[str], expires_at: float | None = None) -> tuple[str, StoredKey]:
    """Return the text of a new key, to be shown once, and what is stored of it."""
    key_id = secrets.token_hex(_ID_BYTES)
    text = f"{_PREFIX}_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    return text, StoredKey(key_id, _hash(text), tenant, user, frozenset(roles), expires_at)


def demo_key(text: str) -> StoredKey:
    """Return what is stored of the demo key, whatever form it has; there is one at a time."""
    return StoredKey(DEMO_ID, _hash(text), tenant="demo", user="demo", roles=DEMO_ROLES)


def candidate_ids(text: str) -> tuple[str, str]:
    """Return the ids under which a key with this text may be stored."""
    match text.split("_"):
        case [prefix, key_id, _] if prefix == _PREFIX:
            return key_id, DEMO_ID
    return DEMO_ID, DEMO_ID


def matching(text: str, stored: Iterable[StoredKey]) -> StoredKey | None:
    """Return the one of `stored` that `text` is the key of; compared in constant time."""
    given = _hash(text)
    found = None
    for key in stored:
        if hmac.compare_digest(key.hash, given):
            found = key
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
