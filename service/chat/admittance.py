"""Who is turned away at once, before anything is spent: while draining, over a rate, with no hope of a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import ShuttingDown

if TYPE_CHECKING:
    from service.chat.turn import Turn
    from service.runtime.gate import Gate


@dataclass(slots=True)
class Admittance:
    """Decides at the door, one per process. `patience`: seconds that a request may wait for its own place."""

    requests: Gate
    patience: float
    draining: bool = False

    def admit(self, turn: Turn) -> None:
        """Let `turn` go on to wait for its place.

        Raises:
            ShuttingDown: this process drains.
            RateLimited: the tenant's own line is full or too long.
            Overloaded: the queue is full or too long.
        """
        if self.draining:
            raise ShuttingDown(retry_after=1.0)
        assert turn.principal is not None  # noqa: S101  (types: the flow authenticated before)
        self.requests.check(turn.principal.tenant, min(self.patience, turn.left()))
