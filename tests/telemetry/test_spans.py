"""What a phase's span says, however it is written, is what the SDK's own span would have said."""

from enum import StrEnum

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from telemetry.spans import ChildSpan
from telemetry.testing import SeededIds

LONGEST = 10


class Word(StrEnum):
    """A text of another class, as the service's closed sets are."""

    ONE = "a word of more than ten"


KEY = st.sampled_from(["a", "b", "c", "d"])
TEXT = st.text("äbc ", max_size=20)
VALUE = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.just(Word.ONE)
ANY = VALUE | st.lists(TEXT, max_size=3) | st.just(("x", 1)) | st.none() | st.binary(max_size=3)
ATTRIBUTES = st.dictionaries(KEY, ANY, max_size=4)
CONTEXT = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    is_remote=st.just(value=False),
    trace_flags=st.sampled_from([TraceFlags(1), TraceFlags(3)]),
    trace_state=st.sampled_from([TraceState(), TraceState([("vendor", "x")])]),
)
STATUS = st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "why")])
TIME = st.integers(1, 2**63)
CALL = st.one_of(
    st.tuples(st.just("set_attribute"), KEY, ANY),
    st.tuples(st.just("set_attributes"), ATTRIBUTES),
    st.tuples(st.just("add_event"), TEXT, ATTRIBUTES, TIME),
    st.tuples(st.just("add_link"), CONTEXT, ATTRIBUTES),
    st.tuples(st.just("record_exception"), st.just(ValueError("text")), ATTRIBUTES, TIME),
    st.tuples(st.just("set_status"), STATUS),
    st.tuples(st.just("update_name"), TEXT),
    st.tuples(st.just("end"), st.just(5)),
)


class Kept(SpanProcessor):
    """Every span that started, and every one that ended."""

    def __init__(self):
        self.started, self.ended = [], []

    def on_start(self, span, parent_context=None):
        self.started.append(span)

    def on_end(self, span):
        self.ended.append(span)


def tracer(kept):
    provider = TracerProvider(
        resource=Resource({"service.name": "forebay"}),
        id_generator=SeededIds(1),
        span_limits=SpanLimits(max_attribute_length=LONGEST),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(kept)
    return provider.get_tracer("forebay")


def told(span):
    """What would be exported, its start and the order of its attributes aside."""
    ((resource,),) = (encode_spans([span]).resource_spans,)
    (one,) = resource.scope_spans[0].spans
    one.start_time_unix_nano = 0
    one.attributes.sort(key=lambda pair: pair.key)
    for part in (*one.events, *one.links):
        part.attributes.sort(key=lambda pair: pair.key)
    return resource


@given(CONTEXT, st.sampled_from(SpanKind), ATTRIBUTES, st.lists(CALL, max_size=8))
def test_whatever_is_done_to_it_it_is_exported_as_the_sdk_s_span_would_be(parent, kind, attributes, calls):
    ours, theirs = Kept(), Kept()
    span = ChildSpan(tracer(ours), "phase", parent, kind, attributes)
    above = set_span_in_context(trace.NonRecordingSpan(parent))
    other = tracer(theirs).start_span("phase", above, kind, attributes)
    for name, *arguments in [*calls, ("end", 5), ("end", 6)]:
        getattr(span, name)(*arguments)
        getattr(other, name)(*arguments)
        assert span.is_recording() == other.is_recording()
    (ended,), (others,) = ours.ended, theirs.ended
    assert ours.started == [span]
    assert ended.get_span_context() == others.get_span_context()
    assert told(ended) == told(others)
    assert (ended.dropped_attributes, ended.dropped_events, ended.dropped_links) == (0, 0, 0)


def test_it_is_a_span_of_the_sdk_with_the_time_of_its_start_and_end():
    kept = Kept()
    span = ChildSpan(tracer(kept), "phase", SpanContext(1, 2, is_remote=False), SpanKind.INTERNAL, None)
    assert isinstance(span, Span)
    span.end()
    assert 0 < span.start_time <= span.end_time
    assert span.attributes == {}
    assert (span.events, span.links) == ((), ())


def test_what_comes_after_its_end_changes_nothing(caplog):
    kept = Kept()
    span = ChildSpan(tracer(kept), "phase", SpanContext(1, 2, is_remote=False), SpanKind.INTERNAL, None)
    span.end(5)
    span.set_attribute("late", 1)
    span.end(7)
    assert (dict(span.attributes), span.end_time, len(kept.ended)) == ({}, 5, 1)
    assert "on ended span" in caplog.text.lower() or "on an ended span" in caplog.text
