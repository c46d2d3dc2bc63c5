"""The jobs of one process: the kinds there are, the desk where they are asked for, the worker. For service/app.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.chat.background import CHAT_KIND, Background
from service.jobs.desk import Desk
from service.jobs.followers import Followers
from service.jobs.kinds import KINDS
from service.jobs.means import Means
from service.jobs.sampling import Sampler
from service.jobs.worker import Worker
from service.runtime.gate import Gate
from service.work import Bounds

if TYPE_CHECKING:
    from service.chat.parts import Parts
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
        self._store, self._observer, self._world = store, observer, world
        self._worker: Worker | None = None
        bounds = Bounds(settings.queue, settings.tenant_queue)
        self.desk = Desk(ALL_KINDS, store, bounds, observer, self._wake)
        self.gate = Gate(RESOURCE, settings.concurrency, queue=0, observer=observer)
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
        self._worker = Worker(self._store, ALL_KINDS, means, self.gate, self._observer, self._world)
        self._worker.start()
        self.sampler.start()

    async def drain(self, seconds: float) -> None:
        """Claim nothing more, let who follows end, bring what is worked on to a checkpoint within `seconds`."""
        self.followers.close()
        if self._worker is not None:
            await self._worker.drain(seconds)

    async def stop(self) -> None:
        """End what is left of it."""
        self.followers.close()
        await self.sampler.stop()
        if self._worker is not None:
            await self._worker.drain(0.0)
            await self._worker.stop()

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.nudge()


def _half(bounds: Bounds) -> Bounds:
    """Return the part of the queue that samples may fill: the rest is for what users ask for."""
    return Bounds(-(-bounds.queue // 2), -(-bounds.tenant_queue // 2))
