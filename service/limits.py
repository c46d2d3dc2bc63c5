"""How much this process lets in: its gates, its quota, and its part of what all processes share. For service/app.py.

In memory processes do not know of one another, and each has the limit divided by their number. With Redis the limits
are those of the settings, whichever process uses them: places by leases, all else by common counts. Redis's client is
loaded only then: it would be a twelfth of every start.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from service.routing import limit_of
from service.runtime.counts import MemoryQuota
from service.runtime.gate import Gate
from service.runtime.outage import Outage
from service.runtime.quota import Quota, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.providers.rows import ProviderRow
    from service.runtime.adaptive import Limit
    from service.runtime.leases import Leases
    from service.runtime.shared_counts import SharedQuota
    from service.runtime.world import World
    from service.settings_groups import LimitSettings
    from telemetry.observe import Observer

RETRIEVAL_PLACES = 50  # searches at once in this process
RERANK_WORKERS = 1  # one process scores a list in about a millisecond: more would only wait for the same core
INNER_QUEUE = 1000  # who waits for an inner place holds a request's place already: that bounds it


class Limits:
    """The limits of one process. Made in the running event loop.

    Attributes:
        gates: by resource; `model:<name>` for each provider.
        quota: what a tenant may use over time.
        rules: the part of it that holds in this process.

    Args:
        given: what the settings say of all processes together.
        rows: the providers that this machine can run.
        processes: how many processes there are.
        redis_url: where they share; None if each counts for itself.
        world: the wall clock and ids.
        observer: where gates and outages are told.
    """

    def __init__(
        self,
        given: LimitSettings,
        rows: Iterable[ProviderRow],
        *,
        processes: int,
        redis_url: str | None,
        world: World,
        observer: Observer,
    ) -> None:
        self._processes, self._redis_url = processes, redis_url
        self._world, self._observer = world, observer
        self._outage = Outage("limits", observer)
        self._shared: list[Leases | SharedQuota] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._common: dict[Gate, int] = {}  # what is limited over all processes, and to how much
        self.gates = {"retrieval": self._inner("retrieval", RETRIEVAL_PLACES)}
        self.gates["rerank"] = self._inner("rerank", RERANK_WORKERS)
        self.gates["requests"] = self._requests(given)
        for row in rows:
            part = replace(row, max_concurrency=self._part(row.max_concurrency))
            gate = self.gates[f"model:{row.name}"] = self._inner(f"model:{row.name}", limit_of(part))
            self._common[gate] = row.max_concurrency
        self.rules = _rules_of(given)
        self.quota = self._quota()

    def share(self, gates: Iterable[Gate]) -> None:
        """Take `gates`, which have the limit of all processes together, among those that are shared; before `open`."""
        for gate in gates:
            self._common[gate] = gate.statistics().limit
            gate.set_limit(self._part(self._common[gate]))

    async def open(self) -> None:
        """Get this process's part, if it is to be got from somewhere. What was opened is closed by `close`."""
        if self._redis_url is not None:
            from service.runtime.leases import Leases  # noqa: PLC0415 -- see above
            from service.runtime.redis_client import connect  # noqa: PLC0415

            leases = Leases(
                connect(self._redis_url),
                self._common,
                process=self._world.new_id("process"),
                processes=self._processes,
                outage=self._outage,
            )
            self._shared.append(leases)
        for shared in self._shared:
            await shared.round()
            self._tasks.append(asyncio.create_task(shared.run(), name=type(shared).__name__))

    async def close(self) -> None:
        """Give back what this process holds; call it once no request runs any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shared in self._shared:
            await shared.close()

    def state(self) -> str:
        """Return how that is on which the limits of all processes depend: ready, failed, or off if there is none."""
        if self._redis_url is None:
            return "off"
        return "failed" if self._outage else "ready"

    def _part(self, limit: int) -> int:
        """Return how much of `limit` this process starts with: everything if there is Redis to say otherwise."""
        return limit if self._redis_url is not None else max(1, limit // self._processes)

    def _queue(self, bound: int) -> int:
        """Return this process's part of a queue: nobody lends places in it."""
        return min(bound, max(1, bound // self._processes))

    def _inner(self, resource: str, limit: int | Limit) -> Gate:
        return Gate(resource, limit, queue=INNER_QUEUE, observer=self._observer)

    def _requests(self, given: LimitSettings) -> Gate:
        gate = Gate(
            "requests",
            self._part(given.requests),
            queue=self._queue(given.queue),
            observer=self._observer,
            tenant_limit=self._part(given.tenant_requests),
            tenant_queue=self._queue(given.tenant_queue),
        )
        self._common[gate] = given.requests
        return gate

    def _quota(self) -> Quota:
        if self._redis_url is None:
            self.rules = self.rules.share(self._processes)
        if self._redis_url is None or not self.rules:
            return MemoryQuota(self.rules, self._world.now)
        from service.runtime.redis_client import connect  # noqa: PLC0415 -- see above
        from service.runtime.shared_counts import SharedQuota  # noqa: PLC0415

        quota = SharedQuota(
            connect(self._redis_url), self.rules, processes=self._processes, world=self._world, outage=self._outage
        )
        self._shared.append(quota)
        return quota


def _rules_of(given: LimitSettings) -> Rules:
    """Return the settings' limits over time."""
    daily = {"tokens": given.tenant_tokens_per_day, "cost": given.tenant_cost_per_day}
    return Rules(
        requests=given.tenant_rate.count if given.tenant_rate else None,
        period=given.tenant_rate.period if given.tenant_rate else 60.0,
        daily={name: float(most) for name, most in daily.items() if most is not None},
        user_streams=given.user_streams,
    )
