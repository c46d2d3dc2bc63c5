"""Telemetry put together for one process: called once by the composition root, closed by it last of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TextIO

from telemetry import exposition, workers
from telemetry.catalogue import (
    LOG_LABEL_REFUSED,
    LOG_TELEMETRY_REACHABLE,
    LOG_TELEMETRY_UNREACHABLE,
    TELEMETRY_LOG_LINES_DROPPED_TOTAL,
    TELEMETRY_SPANS_DROPPED_TOTAL,
    LabelSets,
    Metric,
)
from telemetry.instruments import Instruments
from telemetry.logs import Format, Logger, Logging, configure
from telemetry.observe import Observer
from telemetry.tracing import Tracing, open_tracing, otlp_exporter

Collector = Literal["off", "ready", "failed"]
"""How the way to the collector is: `off` if none is configured, `failed` from a failed sending to the next good one."""


@dataclass(frozen=True)
class Options:
    """What telemetry needs to know, handed in from the settings.

    `extra_bounds` are budgets and SLO thresholds that must be bounds of a histogram, in its unit. `resource` says what
    this process is, in OpenTelemetry's names. `otlp_endpoint` is a base address, "" sends spans nowhere.
    """

    label_sets: LabelSets
    resource: Mapping[str, str]
    extra_bounds: Mapping[Metric, tuple[float, ...]] = field(default_factory=dict)
    otlp_endpoint: str = ""
    sample_ratio: float = 1.0
    capture_content: bool = False
    log_format: Format = "auto"


class Telemetry:
    """The telemetry of this process: hand `observer` around, answer /metrics with `render`, call `close` at the end."""

    def __init__(self, options: Options, stream: TextIO | None = None) -> None:
        """Take over the root logger and open the way to the collector. Lines go to `stream`, or standard output."""
        directory = workers.shared_directory()
        self._lock = workers.claim(directory) if directory else None
        self._logging: Logging = configure(
            options.log_format, stream=stream, capture_content=options.capture_content, on_dropped=self._line_dropped
        )
        self.collector: Collector = "ready" if options.otlp_endpoint else "off"
        self._instruments = Instruments(
            options.label_sets, extra_bounds=options.extra_bounds, refuse=_Refusals(self._logging.logger)
        )
        self._tracing: Tracing = open_tracing(
            otlp_exporter(options.otlp_endpoint) if options.otlp_endpoint else None,
            sample_ratio=options.sample_ratio,
            resource=dict(options.resource),
            on_dropped=self._spans_dropped,
            on_reached=self._collector_reached,
            capture_content=options.capture_content,
        )
        self.observer = Observer(self._tracing.provider, self._instruments, self._logging.logger)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return what `/metrics` answers to an Accept header, and its content type. Blocks: call it in a thread."""
        return exposition.render(self._instruments.registry, accept)

    def close(self, seconds: float = 3.0) -> None:
        """Send the spans and lines that wait, for about `seconds` at most. Blocks: call it in a thread."""
        self._tracing.close(seconds)
        self._logging.close()
        if self._lock is not None:
            self._lock.close()

    def _spans_dropped(self, count: int) -> None:
        self.observer.inc(TELEMETRY_SPANS_DROPPED_TOTAL, by=count)

    def _line_dropped(self) -> None:
        self.observer.inc(TELEMETRY_LOG_LINES_DROPPED_TOTAL)

    def _collector_reached(self, reached: bool) -> None:  # noqa: FBT001  # called by position, from the export thread
        self.collector = "ready" if reached else "failed"
        self.observer.log(LOG_TELEMETRY_REACHABLE if reached else LOG_TELEMETRY_UNREACHABLE)


class _Refusals:
    """Logs a metric whose label was refused, once for each metric; never the value, which anybody may have sent."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._told: set[Metric] = set()

    def __call__(self, metric: Metric, _values: tuple[str, ...]) -> None:
        if metric not in self._told:
            self._told.add(metric)
            self._logger.log(LOG_LABEL_REFUSED, {"metric": metric.name})
