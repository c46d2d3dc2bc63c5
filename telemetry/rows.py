"""What a row of the catalogue is: metrics, label sets, spans and log events as plain values.

The catalogue is made of these; instruments, observer, reference, dashboards and tests read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "forebay_"
OTHER = "other"  # where a label value goes that its set does not name, if the set has it

Across = Literal["sum", "max"]


@dataclass(frozen=True, eq=False)
class LabelSet:
    """A closed set of label values.

    `names` are the labels it fills: two of them when only some pairs exist, such as a provider and its models. The
    values stand here, or are handed in at start as the field `source` of `LabelSets`.
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.values) == bool(self.source):
            msg = f"the set of {self.names} needs either values or a source"
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric. Rows are compared and hashed by identity, which keeps the look-up on the hot path cheap.

    `bounds` are a histogram's upper bounds in `unit`, to which budgets and SLO thresholds are added at start. `across`
    says how a gauge's values of several worker processes become one.
    """

    short_name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[LabelSet, ...] = ()
    bounds: tuple[float, ...] = ()
    across: Across = "sum"

    @property
    def name(self) -> str:
        """The name that Prometheus sees."""
        return PREFIX + self.short_name

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order in which their values are given."""
        return tuple(name for label_set in self.labels for name in label_set.names)

    @property
    def unit(self) -> str:
        """`seconds`, or `1` for a plain count."""
        return "seconds" if "_seconds" in self.short_name else "1"


@dataclass(frozen=True)
class SpanRow:
    """A span: its name as a trace shows it, its OpenTelemetry kind, and what it covers."""

    name: str
    kind: Literal["internal", "server", "client"]
    meaning: str


@dataclass(frozen=True)
class LogEvent:
    """An event of the log: its name is the line's `event`."""

    name: str
    level: Literal["debug", "info", "warning", "error"]
    meaning: str


def counter(name: str, meaning: str, *labels: LabelSet) -> Metric:
    """Make the row of a counter: it only goes up."""
    return Metric(name, "counter", meaning, labels)


def gauge(name: str, meaning: str, *labels: LabelSet, across: Across = "sum") -> Metric:
    """Make the row of a gauge. Use `max` for what every worker says of the same thing, such as a budget or a state."""
    return Metric(name, "gauge", meaning, labels, across=across)


def histogram(name: str, meaning: str, *labels: LabelSet, bounds: tuple[float, ...]) -> Metric:
    """Make the row of a histogram."""
    return Metric(name, "histogram", meaning, labels, bounds)
