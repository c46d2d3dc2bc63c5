"""Whether a request will be traced, asked before anything is collected for its span. Only `server` calls it.

The sampler looks at nothing but the trace's id and the caller's flag. So the id is drawn first: of ten requests nine
need no more than a span that says who they are, and the instrumentation is spared. For the tenth it makes the span, in
the trace that was drawn.
"""

from __future__ import annotations

from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    INVALID_TRACE_ID,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)

_drawn: ContextVar[int] = ContextVar("drawn", default=INVALID_TRACE_ID)


class DrawnIds(IdGenerator):
    """Another generator's ids; a trace that was sampled before its first span began keeps the id that it was given."""

    def __init__(self, ids: IdGenerator) -> None:
        self._ids = ids

    def generate_span_id(self) -> int:
        """Return 64 bits, never 0."""
        return self._ids.generate_span_id()

    def generate_trace_id(self) -> int:
        """Return the id that was drawn in this context, once; else a new one of 128 bits, never 0."""
        drawn = _drawn.get()
        if drawn == INVALID_TRACE_ID:
            return self._ids.generate_trace_id()
        _drawn.set(INVALID_TRACE_ID)
        return drawn

    def is_trace_id_random(self) -> bool:
        """Whether the other generator's are."""
        return self._ids.is_trace_id_random()


class HeadSampler:
    """Decides for one provider, as its own sampler does. Its tracers made from here on continue what was drawn."""

    def __init__(self, provider: TracerProvider) -> None:
        self._sampler = provider.sampler
        self._ids: IdGenerator = provider.id_generator
        if not isinstance(self._ids, DrawnIds):
            self._ids = DrawnIds(self._ids)
            provider.id_generator = self._ids  # type: ignore[assignment]  # inferred from what is there by default

    def unseen(self, parent: SpanContext | None) -> NonRecordingSpan | None:
        """Return the span of a request that nobody will see, as the SDK would make it; None if it is sampled.

        Args:
            parent: the caller's span, if it is believed. If not, the sampled request's trace is drawn here: its span
                must begin in the same context before another one does.
        """
        around = parent or INVALID_SPAN_CONTEXT
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        above = set_span_in_context(NonRecordingSpan(around), Context())
        if self._sampler.should_sample(above, trace_id, "", SpanKind.SERVER).decision is not Decision.DROP:
            if parent is None:
                _drawn.set(trace_id)
            return None
        random = around.trace_flags.random_trace_id if parent else self._ids.is_trace_id_random()
        flags = TraceFlags(TraceFlags.RANDOM_TRACE_ID if random else TraceFlags.DEFAULT)
        own = SpanContext(
            trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=flags, trace_state=around.trace_state
        )
        return NonRecordingSpan(own)
