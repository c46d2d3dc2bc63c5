"""What /readyz tells: whether this process takes requests, and how each thing is that it depends on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import ForebayError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.store import StateStore

PATIENCE = 1.0  # seconds for the state database to answer


@dataclass(frozen=True, slots=True)
class Readiness:
    """The facts of one process. `facts` are asked each time: dependency → ready, starting, failed or off."""

    store: StateStore
    draining: Callable[[], bool]
    facts: Mapping[str, Callable[[], str]]

    async def __call__(self) -> tuple[int, dict[str, Any]]:
        """Return status and body: 503 only while draining or without the state database."""
        found = {"state": await self._state(), **{name: ask() for name, ask in self.facts.items()}}
        if self.draining():
            return 503, {"status": "draining", "dependencies": found}
        if found["state"] != "ready":
            return 503, {"status": "unavailable", "dependencies": found}
        return 200, {"status": "degraded" if "failed" in found.values() else "ready", "dependencies": found}

    async def _state(self) -> str:
        try:
            async with asyncio.timeout(PATIENCE):
                await self.store.history("", "", "", 1)
        except (ForebayError, TimeoutError):
            return "failed"
        return "ready"
