"""Spans on their way to the collector: a queue that never makes a request wait, and counts what it had to drop.

The SDK's batch processor does the work on its own thread. What is added here is the account of what was lost, and that
no exception's text leaves the process: instrumentation that is not ours records it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from telemetry.attributes import Attr

QUEUE_SPANS = 16_384  # the SDK's 2,048 lose two thirds of a burst of 10,000 spans when an export takes 200 ms
BATCH_SPANS = 512
DELAY_MS = 2_000  # a batch costs 2 ms, however small; the SDK waits 5 s, which is long for who looks for a trace

Dropped = Callable[[int], None]
Reached = Callable[[bool], None]


class CountingExporter(SpanExporter):
    """Hands batches on; says how many spans failed, and when the collector is lost or found again."""

    def __init__(
        self, exporter: SpanExporter, on_dropped: Dropped, on_reached: Reached, *, capture_content: bool
    ) -> None:
        self._exporter = exporter
        self._on_dropped = on_dropped
        self._on_reached = on_reached
        self._capture_content = capture_content
        self._reached = True
        self._lock = threading.Lock()
        self._waiting = 0
        self._abandoned = False

    def admit(self) -> bool:
        """Count a span that comes into the queue; return False if another one is pushed out for it."""
        with self._lock:
            full = self._waiting >= QUEUE_SPANS
            self._waiting += not full
            return not full

    def abandon(self) -> None:
        """Send nothing any more, and count what still waits as dropped."""
        with self._lock:
            self._abandoned = True
            waiting, self._waiting = self._waiting, 0
        if waiting:
            self._on_dropped(waiting)
        self._exporter.shutdown()  # ends the pauses between attempts, so that the batch in hand fails now

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send `spans`. Called on the processor's thread only."""
        with self._lock:
            if self._abandoned:
                return SpanExportResult.FAILURE
            self._waiting = max(0, self._waiting - len(spans))
        told = spans if self._capture_content else [without_exception_text(span) for span in spans]
        result = self._exporter.export(told)
        reached = result is SpanExportResult.SUCCESS
        if not reached:
            self._on_dropped(len(spans))
        if reached is not self._reached:
            self._reached = reached
            self._on_reached(reached)
        return result

    def shutdown(self) -> None:
        """Close the connection to the collector."""
        if not self._abandoned:
            self._exporter.shutdown()


class CountingProcessor(BatchSpanProcessor):
    """The SDK's queue with one addition: a span that is pushed out is counted."""

    def __init__(self, exporter: CountingExporter, on_dropped: Dropped) -> None:
        super().__init__(exporter, QUEUE_SPANS, DELAY_MS, BATCH_SPANS)
        self._counting = exporter
        self._on_dropped = on_dropped

    def on_end(self, span: ReadableSpan) -> None:
        """Queue `span`: never waits."""
        context = span.context
        if context is not None and context.trace_flags.sampled and not self._counting.admit():
            self._on_dropped(1)
        super().on_end(span)


def without_exception_text(span: ReadableSpan) -> ReadableSpan:
    """Return `span` with the class of each recorded exception and without its text; mostly the same object."""
    if not span.events and not span.status.description:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_without_text(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_text(event: Event) -> Event:
    if event.name != "exception":
        return event
    kind = (event.attributes or {}).get(Attr.EXCEPTION_TYPE, "")
    return Event(event.name, {Attr.EXCEPTION_TYPE: kind}, event.timestamp)
