"""Who calls a route that answers at once; turns and jobs authenticate in their flow, where it is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request

    from service.ports import Principal


async def caller(request: Request) -> Principal:
    """Return whose key came with the request; raise Unauthenticated."""
    address = request.client.host if request.client else ""
    authenticate = request.app.state.parts.authenticate
    who: Principal = await authenticate(request.headers.get("authorization"), address)
    return who
