"""The response whose task owns the request: FastAPI routes to it, and from then on nobody stands in between.

Starlette's StreamingResponse cuts every await of a clean-up short (60 of 60 disconnects, measured); a response of our
own completes them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from service.api.wire import Wire
from service.chat.conduct import conduct, new_turn
from service.chat.flow import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from service.chat.conduct import Flow
    from service.chat.door import Door
    from service.chat.parts import Parts


class TurnResponse(Response):
    """Conducts one turn behind `door`."""

    def __init__(self, parts: Parts, door: Callable[[Wire], Door], do: Flow = answer) -> None:
        super().__init__()
        self._parts, self._door, self._do = parts, door, do

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request to its end."""
        use = self._parts
        door = self._door(Wire(scope, receive, send, max_body=use.habits.max_body))
        await conduct(new_turn(use, door, use.observer.current()), use, door, do=self._do)


class TurnRoute(APIRoute):
    """A route; if its response is a TurnResponse, its endpoint is given the request and nothing else is resolved."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        if self.response_class is not TurnResponse or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response: TurnResponse = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
