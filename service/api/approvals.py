"""GET /tool-calls, POST /tool-calls/{id}/approval: what waits for a human, and what the human says.

A decision is written to the state database, in whichever process it arrives; the process whose turn waits sees it.
"""

from __future__ import annotations

from json import loads
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, StringConstraints

from service.api.caller import caller
from service.api.openapi import refusals, takes
from service.chat.steps.input_validation import parse
from service.errors import Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from service.calls import StoredCall
    from service.ports import Principal

ACTION = "approval:decide"
TOO_LATE = {
    "too_late": "The call does not wait for a decision any more",
    "differs": "The call's arguments are not those that were looked at",
}

router = APIRouter(prefix="/tool-calls")


class Decision(BaseModel):
    """What an approver says. With the digest of the arguments that were looked at, no others can be approved."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    decision: Literal["approve", "deny"]
    arguments_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


@router.get("", summary="The calls of the tenant that wait for an approval", responses=refusals(403, 422))
async def pending(
    request: Request, status: Annotated[Literal["awaiting_approval"], Query()] = "awaiting_approval"
) -> dict[str, Any]:
    """Return what the caller may decide on, oldest first."""
    del status  # there is one
    who = await caller(request)
    calls = await request.app.state.store.pending_calls(who.tenant)
    shown = [_shown(call) for call in calls if _may_decide(request, who, call.tool, call.user)]
    if not shown and not any(_may_decide(request, who, tool, "") for tool in request.app.state.parts.toolbox.equipped):
        raise Forbidden
    return {"tool_calls": shown}


@router.post(
    "/{call_id}/approval",
    summary="Decide on a call that waits",
    openapi_extra=takes(Decision),
    responses=refusals(403, 404, 409),
)
async def decide(request: Request, call_id: str) -> dict[str, Any]:
    """Approve or deny, by tenant and role, not by who owns the session."""
    said = parse(await request.body(), Decision)
    who = await caller(request)
    store, approvals = request.app.state.store, request.app.state.parts.toolbox.approvals
    call: StoredCall | None = await store.call(call_id)
    if call is None or call.tenant != who.tenant:
        raise NotFound("No such call")
    if not _may_decide(request, who, call.tool, call.user):
        raise Forbidden
    approve = said.decision == "approve"
    verdict = await store.decide_call(call, approve=approve, who=who.user, digest=said.arguments_digest or "")
    if verdict != "decided":
        raise Conflict(TOO_LATE[verdict])
    approvals.wake(call_id)
    return {"call_id": call_id, "decision": said.decision, "status": "approved" if approve else "denied"}


def _may_decide(request: Request, who: Principal, tool: str, requested_by: str) -> bool:
    allowed: bool = request.app.state.parts.policy.allows(who, ACTION, tool=tool, requested_by=requested_by)
    return allowed


def _shown(call: StoredCall) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "message_id": call.message_id,
        "tool": call.tool,
        "arguments": loads(call.arguments),
        "arguments_digest": call.digest,
        "requested_by": call.user,
        "status": call.state,
        "created_at": call.created_at,
        "expires_at": call.expires_at,
    }
