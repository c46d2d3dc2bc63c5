"""How jobs look to a client, wherever they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from service.work import JobEvent, StoredJob

ACCEPTED = 202
JOB: dict[str, Any] = {
    "description": "The job that it became; `Location` is where to look at it.",
    "content": {"application/json": {"schema": {"type": "object"}}},
}


def shown(job: StoredJob, *, to: str) -> dict[str, Any]:
    """Return a job as the user `to` of its tenant may see it: the result is for who asked for it alone."""
    own = job.user == to
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "status": job.status,
        "user": job.user,
        "priority": job.priority,
        "position": job.position or None,
        "progress": round(job.progress, 4),
        "step": job.step or None,
        "error_code": job.error_code or None,
        "result": msgspec.json.decode(job.result) if own and job.result is not None else None,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
    }


def accepted(job: StoredJob) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body of the answer to who asked for a job."""
    body = msgspec.json.encode(shown(job, to=job.user))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"location", f"/jobs/{job.job_id}".encode()),
    ]
    return headers, body


def encoded(job_id: str, event: JobEvent) -> bytes:
    """Return an event of a job's log as a server-sent event; its id is its number."""
    data = msgspec.json.encode({"job_id": job_id, "at": event.at, **event.data})
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.number, event.type.encode(), data)
