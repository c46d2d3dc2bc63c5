"""Where spans are made and where they go: provider, sampler, limits, the OTLP connection. Called once, at start.

Nothing global is set: the observer carries the provider, and every instrumentation is handed it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

from telemetry.export import CountingExporter, CountingProcessor, Dropped, Reached
from telemetry.otlp import LeanExporter

EXPORT_TIMEOUT = 5.0  # seconds for one batch, retries included: a collector that hangs costs spans, not memory
ABORT_TIMEOUT = 0.5  # seconds for the batch in hand to fail, and be counted, once nothing more is sent
MAX_ATTRIBUTE_LENGTH = 1_024  # characters


@dataclass(frozen=True)
class Tracing:
    """The provider of this process and the way out of it, if spans are sent at all."""

    provider: TracerProvider
    exporter: CountingExporter | None = None

    def close(self, seconds: float) -> bool:
        """Send what waits for at most `seconds`; return False if something is left, which is counted as dropped.

        Giving up takes half a second more. Blocks: a coroutine calls it in a thread.
        """
        closing = threading.Thread(target=self.provider.shutdown, name="spans-flush", daemon=True)
        closing.start()
        closing.join(seconds)
        in_time = not closing.is_alive()
        if self.exporter is not None and not in_time:
            self.exporter.abandon()
            closing.join(ABORT_TIMEOUT)
        return in_time


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return an exporter to the collector at `endpoint`, a base address: `/v1/traces` is appended."""
    return LeanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT)


def sampler(ratio: float) -> Sampler:
    """Return what keeps `ratio` of all traces, 0 to 1; a parent that was trusted decides for its children."""
    return ParentBased(TraceIdRatioBased(ratio))


def open_tracing(
    exporter: SpanExporter | None,
    *,
    sample_ratio: float,
    resource: dict[str, str],
    on_dropped: Dropped,
    on_reached: Reached,
    capture_content: bool = False,
) -> Tracing:
    """Make the provider.

    Args:
        exporter: where spans go; None makes them, so that ids and exemplars exist, and sends them nowhere.
        sample_ratio: share of traces that are kept, 0 to 1.
        resource: what this process is: `service.name`, `service.version`, …
        on_dropped: told how many spans were lost.
        on_reached: told that the collector is lost (False) or found again (True).
        capture_content: let the texts of exceptions out.
    """
    provider = TracerProvider(
        sampler=sampler(sample_ratio),
        resource=Resource.create(dict(resource)),
        span_limits=SpanLimits(max_attribute_length=MAX_ATTRIBUTE_LENGTH),
        shutdown_on_exit=False,  # whoever opened it closes it, within a bound
    )
    if exporter is None:
        return Tracing(provider)
    counting = CountingExporter(exporter, on_dropped, on_reached, capture_content=capture_content)
    provider.add_span_processor(CountingProcessor(counting, on_dropped))
    return Tracing(provider, counting)
