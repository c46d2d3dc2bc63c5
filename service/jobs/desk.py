"""Where jobs are asked for: knows the kinds, the queue's bounds and whom to wake. Called by the flow and the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from service.errors import InvalidRequest
from telemetry.catalogue import JOBS_TOTAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.jobs.kind import Kind
    from service.work import Accepted, Bounds, JobEvent, JobStatus, JobStore, NewJob, StoredJob
    from telemetry.observe import Observer


@dataclass(frozen=True, slots=True)
class Desk:
    """One per process. The engine is told by `wake` of something to do, by `call_off` of a job that is cancelled."""

    kinds: Mapping[str, Kind]
    store: JobStore
    bounds: Bounds
    observer: Observer
    wake: Callable[[], None]
    call_off: Callable[[str], None]

    def checked(self, kind: str, given: Mapping[str, Any]) -> str:
        """Return the input of a job as JSON, valid for its kind; raise InvalidRequest naming the field."""
        row = self._row(kind)
        try:
            return row.input.model_validate(given).model_dump_json()
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("input", *first["loc"]))[:64]
        where = "".join(character for character in where if character.isprintable())
        raise InvalidRequest(f"{where}: not valid ({first['type']})")

    async def submit(self, job: NewJob, on_commit: Callable[[Accepted], object] | None = None) -> Accepted:
        """Queue a job; raise Conflict, RateLimited, Overloaded or PersistFailed."""
        accepted = await self.store.submit(job, self.bounds, on_commit)
        self.wake()
        return accepted

    async def cancel(self, tenant: str, job_id: str) -> JobStatus | None:
        """Cancel what waits, ask for what runs to be stopped; return the status before, None for no job."""
        found = await self.store.cancel(tenant, job_id)
        if found is None:
            return None
        status, kind = found
        self.call_off(job_id)
        if status == "queued":
            self.observer.inc(JOBS_TOTAL, kind, "cancelled")
        return status

    async def find(self, tenant: str, job_id: str) -> StoredJob | None:
        """Return a job of this tenant, None for none."""
        return await self.store.find(tenant, job_id)

    async def page(self, tenant: str, before: int | None, limit: int, kind: str | None = None) -> Sequence[StoredJob]:
        """Return the tenant's newest jobs before `before`, of one kind or of all; raise InvalidRequest for no kind."""
        if kind is not None:
            self._row(kind)
        return await self.store.page(tenant, before, limit, kind)

    async def log(self, job_id: str, after: int, limit: int) -> Sequence[JobEvent]:
        """Return the events of a job that follow number `after`, in order."""
        return await self.store.log(job_id, after, limit)

    def _row(self, kind: str) -> Kind:
        if kind not in self.kinds:
            raise InvalidRequest(f"kind: must be one of {', '.join(sorted(self.kinds))}")
        return self.kinds[kind]
