import asyncio
import contextlib

import pytest

from telemetry.catalogue import LOG_REQUEST, PHASE_DURATION_SECONDS, STREAM_QUEUE_DEPTH, TENANT_TOKENS_TOTAL, Attr
from telemetry.testing import recording_observer

SECRET = "the client said this"


def test_a_span_is_the_parent_of_what_starts_inside_it():
    observer, recorder = recording_observer()
    with observer.span("model.stream") as outer, observer.span("chat sim", kind="client"):
        assert observer.current().span_id != outer.span_id
    inner = recorder.span("chat sim")
    assert inner["parent"] == outer.span_id
    assert inner["trace_id"] == outer.trace_id
    assert inner["kind"] == "client"


def test_no_span_is_current_outside_of_one():
    observer, _ = recording_observer()
    with observer.span("rerank"):
        pass
    nothing = observer.current()
    assert int(nothing.trace_id, 16) == 0
    nothing.set(Attr.PHASE, "rerank")
    nothing.fail("timeout")
    assert observer.trace_headers() == {}


def test_an_unforeseen_exception_fails_the_span_with_its_class_and_without_its_text():
    observer, recorder = recording_observer()
    with pytest.raises(KeyError), observer.span("tool.call"):
        raise KeyError(SECRET)
    span = recorder.span("tool.call")
    assert span["status"] == "ERROR"
    assert span["attributes"]["error.type"] == "KeyError"
    assert SECRET not in repr(span)


def test_a_cancellation_leaves_the_status_unset():
    observer, recorder = recording_observer()
    with pytest.raises(asyncio.CancelledError), observer.span("model.stream"):
        raise asyncio.CancelledError
    assert recorder.span("model.stream")["status"] == "UNSET"


def test_an_exception_after_a_verdict_changes_nothing():
    observer, recorder = recording_observer()
    with contextlib.suppress(PermissionError), observer.span("policy.check") as span:
        span.set(Attr.OUTCOME, "rejected")
        raise PermissionError
    assert recorder.span("policy.check")["status"] == "UNSET"
    assert "error.type" not in recorder.span("policy.check")["attributes"]


def test_facts_are_put_on_a_span_at_once_and_what_is_not_known_is_left_out():
    observer, recorder = recording_observer()
    with contextlib.suppress(PermissionError), observer.span("policy.check") as span:
        span.put({Attr.HITS: 3, Attr.DEGRADED: None, Attr.OUTCOME: "rejected"})
        raise PermissionError
    assert recorder.span("policy.check")["attributes"] == {Attr.HITS: 3, Attr.OUTCOME: "rejected"}
    assert recorder.span("policy.check")["status"] == "UNSET", "an outcome among them is a verdict"


def test_a_failed_phase_says_which_kind_of_error():
    observer, recorder = recording_observer()
    with contextlib.suppress(TimeoutError), observer.span("rerank") as span:
        span.fail("timeout")
        raise TimeoutError
    assert recorder.span("rerank")["status"] == "ERROR"
    assert recorder.span("rerank")["attributes"]["error.type"] == "timeout"


def test_a_link_is_made_of_w3c_headers_and_broken_ones_make_none():
    observer, recorder = recording_observer()
    with observer.span("job report"):
        headers = observer.trace_headers()
    with observer.span("job chat", links=[headers, {"traceparent": "nonsense"}]) as span:
        span.link({})
        span.link(headers)
    linked = recorder.span("job report")["trace_id"]
    assert recorder.span("job chat")["links"] == [linked, linked]


def test_the_headers_of_a_call_onwards_hold_the_trace_and_no_baggage():
    observer, _ = recording_observer()
    with observer.span("chat sim") as span:
        headers = observer.trace_headers()
    assert headers == {"traceparent": f"00-{span.trace_id}-{span.span_id}-01"}


def test_a_counter_a_gauge_and_a_histogram_take_what_they_are_given():
    observer, recorder = recording_observer()
    observer.inc(TENANT_TOKENS_TOTAL, "demo", "generated", by=40)
    observer.add(STREAM_QUEUE_DEPTH, 3)
    observer.add(STREAM_QUEUE_DEPTH, -1)
    observer.record(PHASE_DURATION_SECONDS, 0.2, "rerank")
    assert recorder.value(TENANT_TOKENS_TOTAL, "demo", "generated") == 40
    assert recorder.value(STREAM_QUEUE_DEPTH) == 2
    assert recorder.value(PHASE_DURATION_SECONDS, "rerank") == 1
    assert recorder.total(PHASE_DURATION_SECONDS, "rerank") == pytest.approx(0.2)
    assert recorder.emitted == {TENANT_TOKENS_TOTAL, STREAM_QUEUE_DEPTH, PHASE_DURATION_SECONDS}


def test_a_line_of_the_log_carries_its_trace():
    observer, recorder = recording_observer()
    with observer.span("finalize") as span:
        observer.log(LOG_REQUEST, outcome="completed")
    (line,) = recorder.logged(LOG_REQUEST)
    assert (line["trace_id"], line["span_id"], line["outcome"]) == (span.trace_id, span.span_id, "completed")


def test_the_recorder_fails_on_a_span_left_open():
    observer, recorder = recording_observer()
    scope = observer.span("rerank")
    with pytest.raises(AssertionError, match="rerank"):
        recorder.assert_no_open_span()
    with scope:
        pass
    recorder.assert_no_open_span()


def test_the_same_seed_gives_the_same_ids():
    def ids(seed):
        observer, recorder = recording_observer(seed=seed)
        with observer.span("rerank"):
            pass
        return recorder.span("rerank")["trace_id"]

    assert ids(7) == ids(7) != ids(8)


def test_two_observers_know_nothing_of_each_other():
    (one, _), (_, other) = recording_observer(), recording_observer()
    one.add(STREAM_QUEUE_DEPTH, 1)
    with one.span("rerank"):
        pass
    assert other.value(STREAM_QUEUE_DEPTH) == 0
    assert other.spans == []
