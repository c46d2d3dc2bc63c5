"""A door: how a request comes in, whose it is, and how its events go out. One for SSE, one for OpenAI's wire format."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from service.chat.steps.stream_emit import Writer
from service.errors import PhaseTimeout
from service.runtime.admission import ADMISSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.chat.parts import Parts
    from service.chat.turn import Ask, Turn
    from service.errors import ForebayError
    from service.ports import Once, Principal


class Door(Writer, Protocol):
    """One request's way in and out. What it does on the wire is its own affair."""

    @property
    def route(self) -> str:
        """The route, as the metrics name it."""
        ...

    @property
    def authorization(self) -> str | None:
        """The Authorization header."""
        ...

    @property
    def address(self) -> str:
        """The peer's address: failed attempts are limited by it."""
        ...

    @property
    def headers_at(self) -> float:
        """When the request's headers were in: loop time, in seconds."""
        ...

    @property
    def wants_phases(self) -> bool:
        """Whether the client asks to be shown the phases."""
        ...

    async def body(self) -> bytes:
        """Read the whole body; raise TooLarge."""
        ...

    def parse(self, body: bytes) -> Ask:
        """Return what is asked for; raise InvalidRequest naming the field."""
        ...

    def timeout(self) -> float | None:
        """Return the client's own limit in seconds; raise InvalidRequest."""
        ...

    def once(self, body: bytes) -> Once | None:
        """Return the Idempotency-Key that came with `body`, if one did; raise InvalidRequest."""
        ...

    def announce(self, headers: Mapping[str, str]) -> None:
        """Send these headers too, whatever the answer is."""
        ...

    def say_replayed(self) -> None:
        """Tell the client, before anything else, that this answer was given before."""
        ...

    async def left(self) -> None:
        """Return when the client has gone."""
        ...

    async def refuse(self, error: ForebayError, trace_id: str) -> None:
        """Answer with a status instead of a stream."""
        ...

    def abort(self) -> None:
        """Free the socket at once, whatever is still buffered."""
        ...


async def identify(turn: Turn, use: Parts, door: Door) -> Principal:
    """Find out whose turn it is; who is turned away from here on was not let in.

    Raises:
        Unauthenticated: nobody's that is known.
        RateLimited: too many wrong keys came from this address.
        PersistFailed: the state database cannot say.
        PhaseTimeout: it does not say in what is left of the whole.
    """
    turn.where = ADMISSION.name
    try:
        async with asyncio.timeout_at(turn.total.deadline):
            turn.principal = await use.authenticate(door.authorization, door.address)
    except TimeoutError:
        raise PhaseTimeout(ADMISSION.name, turn.total.limit) from None
    return turn.principal
