"""POST /jobs, top to bottom, as flow.py is for a turn: a request for long work becomes a job in the queue.

A turn with `background: true` takes the same way from the moment that it is known to be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import from_json

from service.chat.door import identify
from service.chat.plan import INPUT_VALIDATION, POLICY_CHECK, STATE_PERSIST
from service.chat.steps.input_validation import parse
from service.errors import Forbidden
from service.runtime.phase import phase
from service.work import HIGHEST, LOWEST, USUAL, NewJob

if TYPE_CHECKING:
    from service.chat.door import Door
    from service.chat.parts import Parts
    from service.chat.turn import Turn
    from service.ports import Principal

CHAT = "chat"


class JobBody(BaseModel):
    """What a client sends to `/jobs`. Unknown fields are refused, those of the input by its kind."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    kind: Annotated[str, StringConstraints(max_length=64)]
    input: dict[str, Any]
    priority: Annotated[int, Field(ge=LOWEST, le=HIGHEST, description="Higher is sooner, within the tenant.")] = USUAL


async def submit(turn: Turn, use: Parts, door: Door) -> None:
    """Queue the job that is asked for."""
    body = await door.body()
    with phase(turn, INPUT_VALIDATION):
        asked = parse(body, JobBody)
        given = use.jobs.checked(asked.kind, asked.input)
        turn.once = door.once(body)
    who = await identify(turn, use, door)
    await enqueue(turn, use, door, who, asked.kind, given, asked.priority)


async def enqueue_turn(turn: Turn, use: Parts, door: Door, who: Principal, body: bytes) -> None:
    """Queue a turn that is to run in the background."""
    asked = from_json(body)  # by the reader that has validated it: another one may stumble over 1e400
    await enqueue(turn, use, door, who, CHAT, use.jobs.checked(CHAT, asked), USUAL)


async def enqueue(turn: Turn, use: Parts, door: Door, who: Principal, kind: str, given: str, priority: int) -> None:
    """Let who may, and for whom there is room, have the job queued: the commit is the moment of completion."""
    await use.admit_job(turn)
    with phase(turn, POLICY_CHECK):
        if not use.policy.allows(who, "job:create", kind=kind):
            raise Forbidden
    job = NewJob(
        job_id=use.world.new_id("job"),
        principal=who,
        kind=kind,
        input=given,
        priority=priority,
        trace=use.observer.trace_headers(),
        once=turn.once,
    )
    with phase(turn, STATE_PERSIST):
        accepted = await use.jobs.submit(job, turn.accept)
    if accepted.replayed:
        door.say_replayed()
