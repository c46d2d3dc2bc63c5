"""Rows of the catalogue made into prometheus_client objects, with every series bound and at 0 from the start.

A counter that is born at 1 has no `increase()`, and binding a child costs ten times the increment: so every label set
is bound once, when the process starts, and the hot path is two look-ups. The observer is the only caller.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from telemetry.catalogue import BUILD_INFO, METRICS, LabelSets, Metric
from telemetry.rows import OTHER
from telemetry.series import Distribution, Nowhere, Value, value_of

Parent = TypeVar("Parent", Counter, Gauge, Histogram)
Series = TypeVar("Series")  # Value or Distribution
Values = tuple[str, ...]
Refused = Callable[[Metric, Values], None]

_NOWHERE = Nowhere()

_ACROSS: dict[str, Literal["livesum", "livemax"]] = {"sum": "livesum", "max": "livemax"}  # live: a dead worker has none


class UnknownLabelError(ValueError):
    """A label value that its closed set does not name."""


class Family(dict[Values, Series]):
    """One metric with all of its series, by the values of their labels.

    A value that its set does not name becomes `other` if the set has that. If not, `refuse` is told and the point goes
    nowhere.
    """

    def __init__(self, row: Metric, bind: Callable[[Values], Series], label_sets: LabelSets, refuse: Refused) -> None:
        self._row = row
        self._refuse = refuse
        self._sets = [label_sets.values(label_set) for label_set in row.labels]
        products = (tuple(itertools.chain(*parts)) for parts in itertools.product(*self._sets))
        super().__init__((values, bind(values)) for values in products)

    def __missing__(self, values: Values) -> Series:
        series = self.get(self._with_other(values))
        if series is None:
            self._refuse(self._row, values)
            return cast("Series", _NOWHERE)
        return series

    def _with_other(self, values: Values) -> Values:
        resolved: list[str] = []
        for label_set, known in zip(self._row.labels, self._sets, strict=True):
            part = values[len(resolved) :][: len(label_set.names)]
            resolved += part if part in known else (OTHER,) * len(label_set.names)
        return tuple(resolved) if len(values) == len(resolved) else values


class Instruments:
    """The metrics of one process, in a registry of their own: a family for each row, by kind."""

    def __init__(
        self,
        label_sets: LabelSets,
        *,
        extra_bounds: Mapping[Metric, Iterable[float]] | None = None,
        refuse: Refused | None = None,
    ) -> None:
        """Build and bind everything.

        Args:
            label_sets: the label values that come from configuration.
            extra_bounds: for a histogram, the configured budgets and SLO thresholds that must be bounds, in its unit.
            refuse: told of a metric and label values outside its sets, before the point is dropped; by default it
                raises UnknownLabelError, which is what tests want.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs
        self.registry = CollectorRegistry(auto_describe=False)
        self.counters: dict[Metric, Family[Value]] = {}
        self.gauges: dict[Metric, Family[Value]] = {}
        self.histograms: dict[Metric, Family[Distribution]] = {}
        extra = extra_bounds or {}
        for row in METRICS:
            self._add(row, extra.get(row, ()), label_sets, refuse or _raise)
        for version in label_sets.versions:
            self.gauges[BUILD_INFO][version,].set(1.0)

    def _add(self, row: Metric, extra: Iterable[float], label_sets: LabelSets, refuse: Refused) -> None:
        name, meaning, labels = row.name, row.help, row.label_names
        if row.kind == "counter":
            counter = Counter(name, meaning, labels, registry=self.registry)
            self.counters[row] = Family(row, lambda values: value_of(_child(counter, values)), label_sets, refuse)
        elif row.kind == "gauge":
            gauge = Gauge(name, meaning, labels, registry=self.registry, multiprocess_mode=_ACROSS[row.across])
            self.gauges[row] = Family(row, lambda values: value_of(_child(gauge, values)), label_sets, refuse)
        else:
            bounds = sorted({*row.bounds, *extra})
            histogram = Histogram(name, meaning, labels, registry=self.registry, buckets=bounds)
            self.histograms[row] = Family(
                row, lambda values: Distribution(_child(histogram, values)), label_sets, refuse
            )


def _child(parent: Parent, values: Values) -> Parent:
    return parent.labels(*values) if values else parent


def _raise(row: Metric, values: Values) -> None:
    raise UnknownLabelError(f"{row.name} has no series {dict(itertools.zip_longest(row.label_names, values))}")
