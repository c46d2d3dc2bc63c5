"""An ASGI application around one that has to be opened first: it comes into being when the server starts.

FastAPI builds its middleware before its lifespan runs, but ours needs what the lifespan opens (the tenants' names for
the metrics, the tracer). So the lifespan is spoken here, and the application is built within it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Openable(Protocol):
    """Something that yields an application while it is open."""

    async def open(self) -> ASGIApp:
        """Open everything and return the application."""
        ...

    async def close(self) -> None:
        """Close everything, whatever of it was opened."""
        ...


class Shell:
    """Speaks the lifespan protocol of ASGI for `inside`, and passes requests on to its application."""

    def __init__(self, inside: Openable) -> None:
        self._inside = inside
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._app = await self._inside.open()
        except BaseException as error:
            await self._inside.close()
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._inside.close()
        await send({"type": "lifespan.shutdown.complete"})
