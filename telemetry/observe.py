"""The only functions of telemetry that the service calls: count, record, open a span, write a line.

One observer per process, made at start and handed around; a fresh one per test. It is called on the event loop, at
most a few dozen times per request and never per token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, cast

from opentelemetry import context, trace
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from telemetry.catalogue import Attr, LogEvent, Metric
from telemetry.instruments import Instruments
from telemetry.logs import Logger
from telemetry.spans import ChildSpan

_PROPAGATOR = TraceContextTextMapPropagator()  # W3C trace context alone: baggage would carry a client's words onwards
_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "server": SpanKind.SERVER}
_FAILED = Status(StatusCode.ERROR)  # without a description: that is where exceptions' texts end up
_VERDICTS = frozenset({Attr.OUTCOME, Attr.REQUEST_OUTCOME})

Kind = Literal["internal", "client", "server"]
Attributes = Mapping[str, AttributeValue]


class Span:
    """A span as the service sees it. Everything is a no-op on a span that is not sampled."""

    __slots__ = ("_judged", "_otel")

    def __init__(self, otel: trace.Span) -> None:
        self._otel = otel
        self._judged = False

    @property
    def trace_id(self) -> str:
        """The trace's id: 32 hexadecimal digits, all 0 without a span."""
        return trace.format_trace_id(self._otel.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        """The span's id: 16 hexadecimal digits, all 0 without a span."""
        return trace.format_span_id(self._otel.get_span_context().span_id)

    @property
    def sampled(self) -> bool:
        """Whether the span will be exported."""
        return self._otel.get_span_context().trace_flags.sampled

    def set(self, key: str, value: AttributeValue) -> None:
        """Set an attribute; `key` is one of `Attr`. Setting an outcome is a verdict: see `SpanScope`."""
        if key in _VERDICTS:
            self._judged = True
        self._otel.set_attribute(key, value)

    def put(self, facts: Mapping[str, AttributeValue | None]) -> None:
        """Set those of several attributes that are known, at once."""
        self._judged = self._judged or not _VERDICTS.isdisjoint(facts)
        self._otel.set_attributes({key: value for key, value in facts.items() if value is not None})

    def event(self, name: str, **attributes: AttributeValue) -> None:
        """Add a moment to the span."""
        self._otel.add_event(name, attributes)

    def fail(self, error_type: str) -> None:
        """Mark the span as failed. `error_type` is of few kinds, the same as on the metric; never a text."""
        self._judged = True
        self._otel.set_attribute(Attr.ERROR_TYPE, error_type)
        self._otel.set_status(_FAILED)

    def link(self, headers: Mapping[str, str]) -> None:
        """Link to the span that W3C `headers` speak of, if they do."""
        remote = remote_span(headers)
        if remote is not None:
            self._otel.add_link(remote)


class SpanScope:
    """A span that is current from `with` to its end.

    An exception that passes through marks it as failed with the class of the exception, never its text, unless a
    verdict was given before (`fail`, or an outcome set): a refusal and a cancellation are exceptions and no errors.
    """

    __slots__ = ("_otel", "_span", "_token")

    def __init__(self, otel: trace.Span) -> None:
        self._otel = otel

    def __enter__(self) -> Span:
        self._token = context.attach(trace.set_span_in_context(self._otel))
        self._span = Span(self._otel)
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        context.detach(self._token)
        if isinstance(error, Exception) and not self._span._judged:  # noqa: SLF001  # two halves of one thing
            self._span.fail(type(error).__qualname__)
        self._otel.end()


class _Unseen(Span):
    """A span in a trace that nobody will see: it has ids, and takes nothing in."""

    __slots__ = ()

    def set(self, key: str, value: AttributeValue) -> None:
        """Forget it."""

    def put(self, facts: Mapping[str, AttributeValue | None]) -> None:
        """Forget them."""

    def event(self, name: str, **attributes: AttributeValue) -> None:
        """Forget it."""

    def fail(self, error_type: str) -> None:
        """Forget it."""

    def link(self, headers: Mapping[str, str]) -> None:
        """Forget it."""


class _Unsampled(SpanScope):
    """The scope of any span in a trace that nobody will see: the span that is current stays so, and ends elsewhere."""

    __slots__ = ()

    def __init__(self, otel: trace.Span) -> None:
        self._span = _Unseen(otel)

    def __enter__(self) -> Span:
        return self._span

    def __exit__(self, *_: object) -> None:
        """End nothing: it goes on."""


class Observer:
    """Counts, records, traces and logs, by rows of the catalogue."""

    def __init__(self, tracer_provider: TracerProvider, instruments: Instruments, logger: Logger) -> None:
        self.tracer_provider = tracer_provider
        self._tracer = cast("Tracer", tracer_provider.get_tracer("forebay"))
        self._counters = instruments.counters
        self._gauges = instruments.gauges
        self._histograms = instruments.histograms
        self._logger = logger
        self._unseen: _Unsampled | None = None
        self._example: dict[str, str] | None = None
        self._example_is_known = False

    def within(self, span: Span) -> Self:
        """Return an observer for all that happens inside of `span`: it need not look, each time, in which trace it is.

        Of what nobody will see there are no spans, and no examples in histograms.
        """
        around = span._otel.get_span_context()  # noqa: SLF001  # ours
        if around.is_remote or not around.is_valid:
            return self
        inside = object.__new__(type(self))
        inside.__dict__.update(self.__dict__)
        inside._unseen = None if around.trace_flags.sampled else _Unsampled(span._otel)  # noqa: SLF001  # ours
        inside._example, inside._example_is_known = _example(around), True
        return inside

    def inc(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """Add `by` (0 or more) to a counter. Labels are in the row's order."""
        if by < 0:
            msg = f"{metric.name} cannot go down: {by}"
            raise ValueError(msg)
        self._counters[metric][labels].inc(by)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Add `amount`, which may be negative, to a gauge."""
        self._gauges[metric][labels].inc(amount)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._gauges[metric][labels].set(float(value))

    def record(self, metric: Metric, value: float, *labels: str, span: Span | None = None) -> None:
        """Put `value` (in the row's unit) into a histogram, with `span` or the current one as exemplar if sampled."""
        example = self._example
        if not self._example_is_known:
            example = _example((span._otel if span is not None else trace.get_current_span()).get_span_context())  # noqa: SLF001  # ours
        self._histograms[metric][labels].observe(value, example)

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        links: Sequence[Mapping[str, str]] = (),
    ) -> SpanScope:
        """Start a span under the current one: use it with `with`, and never across a `yield`.

        Args:
            name: as a row of the catalogue has it.
            kind: `client` for a call to another service.
            attributes: those known at the start, which sampling may look at.
            links: W3C headers of spans that belong to it without being its parent.
        """
        if self._unseen is not None:
            return self._unseen
        current = trace.get_current_span()
        around = current.get_span_context()
        if around.is_valid and not around.is_remote:  # the trace's fate is decided: the sampler need not be asked
            if not around.trace_flags.sampled:
                return _Unsampled(current)
            if not links:
                return SpanScope(ChildSpan(self._tracer, name, around, _KINDS[kind], attributes))
        otel_links = [trace.Link(remote) for remote in map(remote_span, links) if remote is not None]
        return SpanScope(self._tracer.start_span(name, kind=_KINDS[kind], attributes=attributes, links=otel_links))

    def current(self) -> Span:
        """Return the span that is current here: a no-op one if there is none."""
        return self._unseen.__enter__() if self._unseen is not None else Span(trace.get_current_span())

    def log(self, event: LogEvent, **fields: Any) -> None:
        """Write one line. `exc_info=error` adds an exception's class and stack, never its text."""
        self._logger.log(event, fields)

    def trace_headers(self) -> dict[str, str]:
        """Return the W3C headers that tell another service of the current span; {} without one."""
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers)
        return headers


def _example(span: trace.SpanContext) -> dict[str, str] | None:
    """Return the labels of an exemplar: the trace, if there will be one to look at."""
    return {"trace_id": trace.format_trace_id(span.trace_id)} if span.trace_flags.sampled else None


def remote_span(headers: Mapping[str, str | list[str]]) -> trace.SpanContext | None:
    """Read the caller's span out of W3C headers (lower-case names); None if there is none or it is malformed.

    A header that was sent several times is a list.
    """
    remote = trace.get_current_span(_PROPAGATOR.extract(headers, context.Context())).get_span_context()
    return remote if remote.is_valid else None
