"""What a gate tells the observer, so that `gate.py` reads without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telemetry.catalogue import (
    ADMISSION_QUEUE_DEPTH,
    ADMISSION_WAIT_SECONDS,
    CONCURRENCY_IN_USE,
    CONCURRENCY_LIMIT,
    CONCURRENCY_UNOWNED,
    TENANT_CONCURRENCY_IN_USE,
    TENANT_CONCURRENCY_LIMIT,
)

if TYPE_CHECKING:
    from telemetry.observe import Observer


class Gauges:
    """The metrics of one gate."""

    def __init__(self, observer: Observer, resource: str) -> None:
        self._observer = observer
        self._resource = resource

    def waited(self, seconds: float) -> None:
        """A request has its place, or has given up, after `seconds`."""
        self._observer.record(ADMISSION_WAIT_SECONDS, seconds, self._resource)

    def depth(self, waiting: int) -> None:
        """So many wait now."""
        self._observer.set(ADMISSION_QUEUE_DEPTH, waiting, self._resource)

    def limit(self, places: int) -> None:
        """So many places there are now."""
        self._observer.set(CONCURRENCY_LIMIT, places, self._resource)

    def unowned(self, places: int) -> None:
        """So many places have outlived their owner."""
        self._observer.set(CONCURRENCY_UNOWNED, places, self._resource)

    def in_use(self, places: int) -> None:
        """So many places are in use now."""
        self._observer.set(CONCURRENCY_IN_USE, places, self._resource)

    def tenant(self, tenant: str, change: int, limit: int) -> None:
        """`tenant` has one place more (+1) or less (-1), of `limit`.

        Tenants without a name of their own share a label, so theirs is a sum and moves by steps.
        """
        self._observer.add(TENANT_CONCURRENCY_IN_USE, change, tenant)
        self._observer.set(TENANT_CONCURRENCY_LIMIT, limit, tenant)
