"""A dependency that is gone: said once when it goes, and once when it is back, however many parts rely on it.

Meanwhile a gauge shows it: a count that rises once would be out of sight long before the dependency is back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from telemetry.catalogue import DEGRADATIONS_TOTAL, DEPENDENCY_GONE, LOG_DEGRADED, LOG_RECOVERED

if TYPE_CHECKING:
    from telemetry.observe import Observer


class Outage:
    """What is known of one dependency. `dependency` is a label of `degradations_total`."""

    def __init__(self, dependency: str, observer: Observer) -> None:
        self._dependency, self._observer = dependency, observer
        self._parts: set[object] = set()

    def __bool__(self) -> bool:
        """True while any part goes on without it."""
        return bool(self._parts)

    def begin(self, part: object, failure: BaseException) -> None:
        """`part` goes on without the dependency from now on."""
        if not self._parts:
            self._observer.inc(DEGRADATIONS_TOTAL, self._dependency)
            self._observer.set(DEPENDENCY_GONE, 1.0, self._dependency)
            self._observer.log(LOG_DEGRADED, dependency=self._dependency, error_type=type(failure).__name__)
        self._parts.add(part)

    def end(self, part: object) -> None:
        """`part` has the dependency again."""
        if part in self._parts:
            self._parts.remove(part)
            if not self._parts:
                self._observer.set(DEPENDENCY_GONE, 0.0, self._dependency)
                self._observer.log(LOG_RECOVERED, dependency=self._dependency)
