"""The jobs of one process: the kinds there are, the desk where they are asked for, the worker. For service/app.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.chat.background import CHAT_KIND, Background
from service.jobs.crew import Crew
from service.jobs.desk import Desk
from service.jobs.embedded import Embedded
from service.jobs.followers import Followers
from service.jobs.kinds import KINDS
from service.jobs.means import Means
from service.jobs.sampling import Sampler
from service.jobs.temporal.engine import Temporal
from service.jobs.temporal.target import Target
from service.runtime.gate import Gate
from service.work import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.chat.parts import Parts
    from service.jobs.engine import Engine
    from service.jobs.means import Index
    from service.runtime.world import World
    from service.settings_groups import JobSettings
    from service.work import JobStore
    from telemetry.observe import Observer

ALL_KINDS = {kind.name: kind for kind in (*KINDS, CHAT_KIND)}
RESOURCE = "jobs"


class Workforce:
    """Made in two steps: the desk is a part of the turns' parts, and the worker's means are made of these parts.

    Attributes:
        desk: where jobs are asked for.
        gate: the places of this process's worker.
        followers: who follows the events of jobs.
        sampler: has a share of the finished turns evaluated.
    """

    def __init__(
        self, settings: JobSettings, store: JobStore, observer: Observer, world: World, sample_ratio: float
    ) -> None:
        self._settings, self._store, self._observer, self._world = settings, store, observer, world
        self._engine: Engine | None = None
        bounds = Bounds(settings.queue, settings.tenant_queue)
        self.desk = Desk(ALL_KINDS, store, bounds, observer, self._wake, self._call_off)
        self.gate = Gate(RESOURCE, settings.concurrency, queue=len(ALL_KINDS), observer=observer)
        self.followers = Followers()
        self.sampler = Sampler(replace(self.desk, bounds=_half(bounds)), sample_ratio, observer, world)

    def start(self, parts: Parts, index: Index) -> None:
        """Begin to work."""
        background = Background(parts, self._store)
        means = Means(
            policy=parts.policy,
            retriever=parts.retriever,
            index=index,
            complete=background.complete,
            converse=background.converse,
            recall=background.recall,
            observer=self._observer,
        )
        crew = Crew(self._store, ALL_KINDS, means, self.gate, self._observer, self._world)
        self._engine = _engine_for(self._settings, crew)
        self._engine.start()
        self.sampler.start()

    async def drain(self, seconds: float) -> None:
        """Claim nothing more, let who follows end, bring what is worked on to a checkpoint within `seconds`."""
        self.followers.close()
        if self._engine is not None:
            await self._engine.drain(seconds)

    async def stop(self) -> None:
        """End what is left of it."""
        self.followers.close()
        await self.sampler.stop()
        if self._engine is not None:
            await self._engine.drain(0.0)
            await self._engine.stop()

    def states(self) -> dict[str, Callable[[], str]]:
        """Return what the engine relies on beside the database, each with what tells how it is."""
        if self._settings.engine == "embedded":
            return {}
        return {self._settings.engine: lambda: self._engine.state() if self._engine is not None else "starting"}

    def _wake(self) -> None:
        if self._engine is not None:
            self._engine.nudge()

    def _call_off(self, job_id: str) -> None:
        if self._engine is not None:
            self._engine.call_off(job_id)


def _engine_for(settings: JobSettings, crew: Crew) -> Engine:
    if settings.engine == "embedded":
        return Embedded(crew)
    return Temporal(crew, Target(settings.temporal_address, settings.temporal_namespace))


def _half(bounds: Bounds) -> Bounds:
    """Return the part of the queue that samples may fill: the rest is for what users ask for."""
    return Bounds(-(-bounds.queue // 2), -(-bounds.tenant_queue // 2))
