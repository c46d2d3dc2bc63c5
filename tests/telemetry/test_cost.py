"""What telemetry leaves undone, so that it costs little, and that nothing is lost by it."""

from opentelemetry import context, trace

from telemetry.catalogue import LOG_REQUEST, PHASE_DURATION_SECONDS, Attr
from telemetry.observe import Span
from telemetry.testing import recording_observer

CALLER = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331  # trace and span


def test_in_a_trace_that_is_sampled_out_the_first_span_stands_for_all_below_it():
    observer, recorder = recording_observer(sample_ratio=0.0)
    with observer.span("POST /chat/stream", kind="server") as server:
        with observer.span("model.stream") as phase, observer.span("chat sim", kind="client") as attempt:
            phase.set(Attr.OUTCOME, "ok")
            attempt.fail("timeout")
            inside = observer.trace_headers()["traceparent"]
        after = observer.current()
    assert {server.span_id, phase.span_id, attempt.span_id, after.span_id} == {server.span_id}
    assert inside == f"00-{server.trace_id}-{server.span_id}-{inside[-2:]}"
    assert not int(inside[-2:], 16) & 1, "the provider is told that nobody looks at this trace"
    assert recorder.spans == []
    assert int(observer.current().trace_id, 16) == 0


def test_an_exception_passes_through_a_span_that_nobody_sees():
    observer, _ = recording_observer(sample_ratio=0.0)
    with observer.span("POST /chat/stream") as outer:
        try:
            with observer.span("rerank"):
                raise KeyError
        except KeyError:
            assert observer.current().span_id == outer.span_id


def test_a_caller_who_looks_at_his_trace_gets_spans_of_ours_whatever_our_own_ratio_is():
    for flags, wanted in ((1, 2), (0, 0)):
        observer, recorder = recording_observer(sample_ratio=0.0)
        caller = trace.NonRecordingSpan(trace.SpanContext(*CALLER, is_remote=True, trace_flags=trace.TraceFlags(flags)))
        token = context.attach(trace.set_span_in_context(caller))
        with observer.span("POST /chat/stream", kind="server"), observer.span("rerank"):
            pass
        context.detach(token)
        assert len(recorder.spans) == wanted


def test_an_observer_within_a_trace_that_nobody_sees_says_who_it_is_and_makes_nothing():
    observer, recorder = recording_observer(sample_ratio=0.0)
    with observer.span("POST /chat/stream", kind="server") as server:
        inside = observer.within(server)
        with inside.span("model.stream") as phase, inside.span("chat sim", kind="client") as attempt:
            phase.set(Attr.OUTCOME, "ok")
            phase.put({Attr.HITS: 3})
            phase.event("moment")
            phase.link({"traceparent": f"00-{1:032x}-{1:016x}-01"})
            attempt.fail("timeout")
            inside.record(PHASE_DURATION_SECONDS, 0.2, "rerank", span=attempt)
            assert inside.trace_headers() == observer.trace_headers()
            inside.log(LOG_REQUEST)
            here = inside.current()
    assert {(one.trace_id, one.span_id) for one in (server, phase, attempt, here)} == {
        (server.trace_id, server.span_id)
    }
    assert not here.sampled
    (line,) = recorder.logged(LOG_REQUEST)
    assert (line["trace_id"], line["span_id"]) == (server.trace_id, server.span_id)
    assert recorder.value(PHASE_DURATION_SECONDS, "rerank") == 1
    assert (recorder.spans, recorder.examples()) == ([], set())


def test_an_observer_within_a_trace_that_is_sampled_makes_all_that_another_makes():
    observer, recorder = recording_observer()
    with observer.span("POST /chat/stream", kind="server") as server:
        inside = observer.within(server)
        with inside.span("model.stream") as phase:
            inside.record(PHASE_DURATION_SECONDS, 0.2, "rerank", span=phase)
            assert inside.current().span_id == phase.span_id
            assert inside.trace_headers() == observer.trace_headers()
    assert recorder.span("model.stream")["parent"] == server.span_id
    assert recorder.examples() == {server.trace_id}


def test_within_no_span_and_within_the_caller_s_an_observer_is_what_it_was():
    observer, _ = recording_observer(sample_ratio=0.0)
    caller = trace.NonRecordingSpan(trace.SpanContext(*CALLER, is_remote=True))
    assert observer.within(observer.current()) is observer
    assert observer.within(Span(caller)) is observer


def test_what_is_seen_within_a_trace_is_not_what_is_seen_outside_of_it():
    observer, recorder = recording_observer(sample_ratio=0.0)
    with observer.span("POST /chat/stream") as server:
        observer.within(server)
    caller = trace.NonRecordingSpan(trace.SpanContext(*CALLER, is_remote=True, trace_flags=trace.TraceFlags(1)))
    token = context.attach(trace.set_span_in_context(caller))
    with observer.span("rerank") as span:
        observer.record(PHASE_DURATION_SECONDS, 0.2, "rerank")
    context.detach(token)
    assert recorder.examples() == {span.trace_id}
    assert len(recorder.spans) == 1
