"""Who asks: from an Authorization header to a Principal. Called by every route, before anything else is done for it.

A key that was good is believed for a few seconds, so that a turn costs no look-up; an address that shows wrong keys is
soon answered without one. Keys themselves are kept nowhere in here, only their hashes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import RateLimited, Unauthenticated
from service.ports import Principal

BELIEVED_SECONDS = 4.0  # below the 5 s within which a revocation works, the look-up's own time included
FAILURES_PER_MINUTE = 20.0
MOST_KEYS = 10_000  # remembered at once; the least used are forgotten first
MOST_ADDRESSES = 10_000
LONGEST_KEY = 512  # characters

Lookup = Callable[[str], Awaitable[Principal | None]]


@dataclass(slots=True)
class _Failures:
    """The failures of an address: `allowance` refills with time, and below 0 it is a debt."""

    allowance: float
    seen_at: float


class Keys:
    """Authenticates the requests of one process; all times are the event loop's."""

    def __init__(self, lookup: Lookup) -> None:
        """Take `lookup`, which finds a key in the state database: None if it is unknown, expired or revoked."""
        self._lookup = lookup
        self._believed: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    async def authenticate(self, authorization: str | None, address: str, *, charge: bool = True) -> Principal:
        """Return whose key is in the header.

        Args:
            authorization: the value of the Authorization header, if there is one.
            address: the peer's address, whose failures are counted.
            charge: whether a wrong key is held against the address: not when it will be asked for once more.

        Raises:
            Unauthenticated: without a key, or with one that is unknown, expired or revoked.
            RateLimited: for a key never seen from an address that has shown too many wrong ones.
            PersistFailed: if the state database cannot say.
        """
        key = _bearer(authorization)
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        now = asyncio.get_running_loop().time()
        known = self._believed.get(digest)
        if known and now < known[1]:
            self._believed.move_to_end(digest)
            return known[0]
        if not known:  # one that was good is asked for again, whatever its neighbours behind one proxy do
            self._refuse_if_guessing(address, now)
        principal = await self._lookup(key)
        if principal is None:
            self._believed.pop(digest, None)
            if charge:
                self._note_failure(address, now)
            raise Unauthenticated
        self._believe(digest, principal, now + BELIEVED_SECONDS)
        return principal

    def _believe(self, digest: bytes, principal: Principal, until: float) -> None:
        self._believed[digest] = (principal, until)
        self._believed.move_to_end(digest)
        if len(self._believed) > MOST_KEYS:
            self._believed.popitem(last=False)

    def _refuse_if_guessing(self, address: str, now: float) -> None:
        failures = self._failures.get(address)
        if failures and (allowance := _refilled(failures, now)) < 1:
            wait = (1 - allowance) * 60 / FAILURES_PER_MINUTE
            raise RateLimited("Too many wrong keys came from this address", retry_after=wait)

    def _note_failure(self, address: str, now: float) -> None:
        """Charge one failure; those that were under way together may run into debt, which takes longer to refill."""
        failures = self._failures.pop(address, None)
        allowance = _refilled(failures, now) if failures else FAILURES_PER_MINUTE
        self._failures[address] = _Failures(max(allowance - 1, -FAILURES_PER_MINUTE), now)
        if len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)


def _refilled(failures: _Failures, now: float) -> float:
    gained = max(0.0, now - failures.seen_at) * FAILURES_PER_MINUTE / 60
    return min(FAILURES_PER_MINUTE, failures.allowance + gained)


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or len(key) > LONGEST_KEY:
        raise Unauthenticated
    return key


def demo_key(data_folder: Path, environ: Mapping[str, str]) -> str:
    """Return the key for trying out: FOREBAY_DEMO_KEY, or the one in `data_folder`, made at the first start.

    For the terminal only, never for a log. Blocks: called before the event loop runs.
    """
    if given := environ.get("FOREBAY_DEMO_KEY"):
        return given
    path = data_folder / "demo.key"
    if not path.exists():
        _write_once(path, f"fb_demo_{secrets.token_hex(32)}\n")
    return path.read_text(encoding="utf-8").strip()


def _write_once(path: Path, text: str) -> None:
    """Make a file that only its owner reads, whole or not at all; of two processes the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 -- from a descriptor
            file.write(text)
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first: its key is the one
    finally:
        draft.unlink(missing_ok=True)
