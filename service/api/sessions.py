"""GET /sessions/{id}/messages, POST /messages/{id}/cancel: what was said, and stop saying it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from service.api.caller import caller
from service.api.openapi import refusals
from service.errors import Cause, Conflict, NotFound

router = APIRouter()


class ShownMessage(BaseModel):
    """One message of a session. `created_at` is in Unix seconds."""

    message_id: str
    role: Literal["user", "assistant"]
    status: Literal["streaming", "completed", "cancelled", "failed", "timed_out", "interrupted"]
    text: str
    created_at: float
    tool_calls: tuple[Mapping[str, Any], ...]


class ShownSession(BaseModel):
    """A session, oldest message first."""

    session_id: str
    messages: list[ShownMessage]


class Cancelling(BaseModel):
    """The message whose answer is being stopped."""

    message_id: str
    status: Literal["cancelling"]


@router.get("/sessions/{session_id}/messages", summary="What was said in a session", responses=refusals(404))
async def messages(request: Request, session_id: str) -> ShownSession:
    """Return the caller's session, oldest message first; another's looks like none."""
    who = await caller(request)
    found = await request.app.state.store.messages(who.tenant, who.user, session_id)
    if found is None:
        raise NotFound("No such session")
    shown = [ShownMessage.model_validate(message, from_attributes=True) for message in found]
    return ShownSession(session_id=session_id, messages=shown)


@router.post(
    "/messages/{message_id}/cancel",
    summary="Stop a running answer from another connection",
    status_code=202,
    responses=refusals(404, 409),
)
async def cancel(request: Request, message_id: str) -> Cancelling:
    """Stop a running answer, in whichever process it runs; its stream ends with `error` `cancelled`."""
    who = await caller(request)
    store = request.app.state.store
    owner = await store.message_owner(message_id)
    if owner is None or (owner.tenant, owner.user) != (who.tenant, who.user):
        raise NotFound("No such message")
    turn = request.app.state.parts.live.get(message_id)
    if turn is not None and turn.cancel(Cause.CLIENT_CANCEL):
        return Cancelling(message_id=message_id, status="cancelling")
    if not await store.request_cancel(message_id):
        raise Conflict("The answer has ended")
    return Cancelling(message_id=message_id, status="cancelling")
