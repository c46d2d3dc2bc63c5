"""Our encoding of spans says what the library's says, of any span."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from telemetry import otlp
from telemetry.otlp import encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
SCALAR = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUE = SCALAR | st.lists(TEXT | st.booleans() | st.integers(-9, 9), max_size=3).map(tuple)
ODD = VALUE | st.binary(max_size=5) | st.dictionaries(TEXT.filter(bool), st.integers(0, 9), max_size=2)
TIME = st.integers(1, 2**63)

RESOURCES = [Resource({"service.name": "forebay", "n": 3}), Resource({"service.name": "other"}, "https://schema/1")]
SCOPES = [InstrumentationScope("forebay"), InstrumentationScope("http", "1.0", "https://schema/2", {"a": 1}), None]
CONTEXT = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(1)),
    st.just(TraceState()) | st.just(TraceState([("vendor", "x")])),
)


def spans(values=VALUE, *, plain=False):
    more = {
        "events": st.lists(st.builds(Event, TEXT, st.just({"exception.type": "E"}), TIME), max_size=2).map(tuple),
        "links": st.lists(st.builds(Link, CONTEXT), max_size=2).map(tuple),
    }
    return st.builds(
        ReadableSpan,
        name=TEXT,
        context=CONTEXT,
        parent=st.none() | CONTEXT,
        resource=st.sampled_from(RESOURCES),
        attributes=st.dictionaries(TEXT, values, max_size=6),
        kind=st.sampled_from(SpanKind),
        status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR)]),
        start_time=TIME,
        end_time=TIME,
        instrumentation_scope=st.sampled_from(SCOPES),
        **({} if plain else more),
    )


def flat(request):
    """Each span with where it comes from, in any order."""
    return sorted(
        (span.span_id, span.trace_id, str(span), str(of_resource.resource), of_resource.schema_url, str(of_scope.scope),
         of_scope.schema_url)
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    )  # fmt: skip


def decoded(data):
    request = ExportTraceServiceRequest()
    request.ParseFromString(data)
    return request


@given(st.lists(spans(ODD), max_size=5))
def test_what_is_read_back_is_what_the_library_says(given_spans):
    assert flat(decoded(encode(given_spans))) == flat(encode_spans(given_spans))


@given(st.lists(spans(plain=True), min_size=1, max_size=5))
def test_a_span_without_anything_unusual_never_takes_the_library_s_way(given_spans):
    usual = [span for span in given_spans if not span.context.trace_state]
    encode(usual)  # resource and scope are known from here on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp, "encode_spans", None)
        encode(usual)


def test_true_one_and_one_point_nought_stay_what_they_are():
    values = [True, 1, 1.0, False, 0, 0.0]
    made = [
        ReadableSpan("s", SpanContext(1, n + 1, is_remote=False), attributes={"v": value}, start_time=1, end_time=2)
        for n, value in enumerate(values)
    ]
    found = [
        span for part in decoded(encode(made)).resource_spans for scope in part.scope_spans for span in scope.spans
    ]
    assert [span.attributes[0].value.WhichOneof("value") for span in found] == [
        "bool_value", "int_value", "double_value", "bool_value", "int_value", "double_value",
    ]  # fmt: skip
