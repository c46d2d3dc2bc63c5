"""A place of a resource for as long as a block runs, and the wait for it as a phase of its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from service.errors import PhaseTimeout
from service.runtime.phase import Phase, phase
from telemetry.catalogue import Attr

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from service.errors import ForebayError
    from service.runtime.gate import Gate, Place
    from service.runtime.phase import Work

ADMISSION = Phase("admission")  # refuse: 429 or 503 before the first byte, `overloaded` after it


@asynccontextmanager
async def place(
    work: Work,
    gate: Gate,
    tenant: str,
    *,
    always: bool = False,
    patience: float | None = None,
    instead_of: phase | None = None,
    on_wait: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Place]:
    """Hold a place of `gate` while the block runs; raise Overloaded or RateLimited when there is none in time.

    Or PhaseTimeout, when it is the client's own limit that ends the wait.

    Args:
        work: the request that needs it.
        gate: the resource.
        tenant: in whose line to wait.
        always: show the wait as a phase although there was none to wait for (the request's own place).
        patience: seconds to wait at most, instead of the plan's.
        instead_of: the phase that needs the place; its clock stands still during the wait.
        on_wait: called before a wait begins.
    """
    held = None if always else gate.try_acquire(tenant, asyncio.current_task())
    if held is None:
        if instead_of is not None:
            instead_of.stop_clock(total=False)
        if on_wait is not None:
            await on_wait()
        held = await _wait(work, gate, tenant, patience)
        if instead_of is not None:
            instead_of.start_clock()
    with held:
        yield held


async def _wait(work: Work, gate: Gate, tenant: str, patience: float | None) -> Place:
    """Wait in line within the budget of the phase `admission`."""
    try:
        with phase(work, ADMISSION, budget=patience) as step:
            step.note(Attr.RESOURCE, gate.resource)
            return gate.try_acquire(tenant, asyncio.current_task()) or await gate.acquire(
                tenant, asyncio.current_task()
            )
    except PhaseTimeout as timeout:
        if timeout.limit == "client":
            raise  # a client that waits for less is not told that there is no place
        raise _refusal(gate, tenant, timeout.phase) from timeout


def _refusal(gate: Gate, tenant: str, where: str) -> ForebayError:
    """Return the error for a wait that was too long. Not a variable of who raises it: the two would keep each other."""
    refusal = gate.refusal(tenant)
    refusal.phase = where
    return refusal
