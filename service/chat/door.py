"""A door: how a request comes in and how its events go out. One for SSE of ours, one for OpenAI's wire format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from service.chat.steps.stream_emit import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.chat.turn import Ask
    from service.errors import ForebayError
    from service.ports import Once


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
