"""What telemetry leaves undone, so that it costs little, and that nothing is lost by it."""

from opentelemetry import context, trace

from telemetry.catalogue import Attr
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
