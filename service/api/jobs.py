"""POST /jobs and what follows: long work asked for, looked at, followed, stopped. A job belongs to its tenant.

Everybody of a tenant sees that a job is there and how it stands; its result and the right to stop it are for the user
who asked for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from service.api.caller import caller
from service.api.chat import SseDoor
from service.api.job_events import JobEvents, follow
from service.api.job_shapes import ACCEPTED, JOB, shown
from service.api.openapi import refusals, takes
from service.api.turn_response import TurnResponse, TurnRoute
from service.chat.submission import JobBody, submit
from service.errors import Conflict, Forbidden, InvalidRequest, NotFound
from service.work import ENDED, EventType

if TYPE_CHECKING:
    from service.ports import Principal
    from service.work import StoredJob

ROUTE = "/jobs"
MOST = 100  # jobs of one page
EVENT = {
    "type": "object",
    "description": "One server-sent event of a job's log.",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"type": "string", "enum": list(get_args(EventType))},
        "data": {"type": "string", "description": "JSON: job_id, at; step and attempt; progress; error_code."},
    },
    "required": ["id", "event", "data"],
}
EVENTS = {
    "description": "The job's events, from its first or after `Last-Event-ID`, until it has ended.",
    "content": {"text/event-stream": {"itemSchema": EVENT}},
}


class JobDoor(SseDoor):
    """The door of `/jobs`: a JSON body in, a job out."""

    route = ROUTE
    longest_body = None  # documents


router = APIRouter(prefix=ROUTE, route_class=TurnRoute)


@router.post(
    "",
    summary="Ask for long work",
    status_code=ACCEPTED,
    response_class=TurnResponse,
    openapi_extra=takes(JobBody),
    responses={ACCEPTED: JOB, **refusals(403, 409, 504)},
)
async def create(request: Request) -> TurnResponse:
    """Queue a job; its kind says what its input is."""
    return TurnResponse(request.app.state.parts, JobDoor, submit)


@router.get("", summary="The tenant's jobs, the newest first", responses=refusals(422))
async def page(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 20,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    kind: Annotated[str | None, Query(max_length=64)] = None,
) -> dict[str, Any]:
    """Return a page; `next` is the `before` of the one after it. With `kind`, jobs of other kinds are left out."""
    who = await caller(request)
    jobs = await request.app.state.jobs.page(who.tenant, before, limit, kind)
    following = jobs[-1].seq if len(jobs) == limit else None
    return {"jobs": [shown(job, to=who.user) for job in jobs], "next": following}


@router.get("/{job_id}", summary="A job as it stands", responses=refusals(404))
async def look(request: Request, job_id: str) -> dict[str, Any]:
    """Return status, progress, and the result or the error's code."""
    who, job = await _job(request, job_id)
    return shown(job, to=who.user)


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    status_code=200,
    response_class=JobEvents,
    responses={200: EVENTS, **refusals(404)},
)
async def events(request: Request, job_id: str) -> JobEvents:
    """Stream the job's events, live once the past is told; the stream ends with the event that ends the job."""
    _, job = await _job(request, job_id)
    state = request.app.state
    return await follow(state.jobs, state.followers, job, _last_event_id(request))


@router.post("/{job_id}/cancel", status_code=ACCEPTED, summary="Stop a job", responses=refusals(403, 404, 409))
async def cancel(request: Request, job_id: str) -> JSONResponse:
    """Cancel what waits at once; what runs stops within a second, in whichever process."""
    who, job = await _job(request, job_id)
    if job.user != who.user:
        raise Forbidden("Only who asked for a job may stop it")
    before = await request.app.state.jobs.cancel(who.tenant, job_id)
    if before is None or before in ENDED:
        raise Conflict("The job has ended")
    status = "cancelled" if before == "queued" else "cancelling"
    return JSONResponse({"job_id": job_id, "status": status}, status_code=ACCEPTED)


async def _job(request: Request, job_id: str) -> tuple[Principal, StoredJob]:
    who = await caller(request)
    job = await request.app.state.jobs.find(who.tenant, job_id)
    if job is None:
        raise NotFound("No such job")
    return who, job


def _last_event_id(request: Request) -> int:
    given = request.headers.get("last-event-id", "0")
    if not (given.isascii() and given.isdigit() and len(given) <= 9):  # noqa: PLR2004  (no job has a thousand million)
        raise InvalidRequest("Last-Event-ID: must be the id of an event of this job")
    return int(given)
