import socket
import threading

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from telemetry import export
from telemetry.catalogue import Attr
from telemetry.instruments import Instruments
from telemetry.logs import recording_logger
from telemetry.observe import Observer
from telemetry.testing import EXAMPLE_LABELS
from telemetry.tracing import open_tracing, otlp_exporter
from tests.telemetry.otlp_sink import OtlpSink


class Gate(SpanExporter):
    """An exporter that takes batches only while its gate is open."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = threading.Event()
        self.names = []

    def export(self, spans):
        self.entered.set()
        self.open.wait(30)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


class Refusing(SpanExporter):
    """An exporter that fails until it is told otherwise."""

    def __init__(self):
        self.result = SpanExportResult.FAILURE

    def export(self, _spans):
        return self.result


class Opened:
    def __init__(self, exporter, *, sample_ratio=1.0, capture_content=False):
        self.dropped = []
        self.reached = []
        self.tracing = open_tracing(
            exporter,
            sample_ratio=sample_ratio,
            resource={"service.name": "forebay", "service.version": "1.2.3"},
            on_dropped=self.dropped.append,
            on_reached=self.reached.append,
            capture_content=capture_content,
        )
        self.observer = Observer(self.tracing.provider, Instruments(EXAMPLE_LABELS), recording_logger([]))

    def ended(self):
        """Wait until the threads of the way out are gone."""
        for thread in threading.enumerate():
            if thread.name in {"spans-flush", "OtelBatchSpanRecordProcessor"}:
                thread.join(10)

    def spans(self, count, name="rerank"):
        for _ in range(count):
            with self.observer.span(name):
                pass


@pytest.fixture
def hanging():
    with OtlpSink(hangs=True) as sink:
        yield sink


def test_a_tree_of_spans_arrives_at_the_collector_as_it_was():
    with OtlpSink() as sink:
        opened = Opened(otlp_exporter(sink.url + "/"))
        with opened.observer.span("model.stream", attributes={Attr.PHASE: "model.stream"}) as outer:
            with opened.observer.span("chat sim", kind="client") as inner:
                inner.fail("timeout")
            outer.set(Attr.OUTCOME, "ok")
        assert opened.tracing.close(5)
        spans = {span["name"]: span for span in sink.wait_for(2)}
    root, child = spans["model.stream"], spans["chat sim"]
    assert child["parent"] == root["span_id"]
    assert child["trace_id"] == root["trace_id"]
    assert root["attributes"] == {"forebay.phase": "model.stream", "forebay.outcome": "ok"}
    assert (root["status"], child["status"]) == (0, 2)
    assert root["resource"]["service.version"] == "1.2.3"
    assert set(sink.paths) == {"/v1/traces"}
    assert opened.dropped == []


def test_a_burst_of_ten_thousand_spans_is_kept_while_the_collector_stands_still():
    gate = Gate()
    opened = Opened(gate)
    opened.spans(10_000)
    gate.open.set()
    assert opened.tracing.close(20)
    assert len(gate.names) == 10_000
    assert opened.dropped == []


def test_what_a_full_queue_pushes_out_is_counted(monkeypatch):
    monkeypatch.setattr(export, "QUEUE_SPANS", 1_024)
    gate = Gate()
    opened = Opened(gate)
    opened.spans(512)
    assert gate.entered.wait(5)  # the first batch is out of the queue, and in the exporter's hands
    opened.spans(1_024 + 100)
    assert sum(opened.dropped) == 100
    gate.open.set()
    assert opened.tracing.close(10)
    assert len(gate.names) == 512 + 1_024


def test_a_failed_batch_is_counted_and_the_change_is_told_once():
    exporter = Refusing()
    opened = Opened(exporter)
    opened.spans(3)
    opened.tracing.provider.force_flush()
    opened.spans(2)
    opened.tracing.provider.force_flush()
    assert sum(opened.dropped) == 5
    assert opened.reached == [False]
    exporter.result = SpanExportResult.SUCCESS
    opened.spans(1)
    opened.tracing.provider.force_flush()
    assert opened.reached == [False, True]
    opened.tracing.close(5)


def test_a_collector_that_hangs_delays_neither_a_span_nor_the_shutdown(hanging):
    opened = Opened(otlp_exporter(hanging.url))
    opened.spans(600)
    assert hanging.connected.wait(5)
    opened.spans(1_000)
    assert not opened.tracing.close(0.2)
    assert opened.reached == []  # the first batch is on its way still: had a span waited for it, it would have failed
    assert sum(opened.dropped) == 600 + 1_000 - 512
    hanging.release()
    assert len(hanging.wait_for(512)) == 512  # the batch that was on its way, and none of the abandoned ones


def test_a_dead_endpoint_delays_nothing_and_loses_what_it_is_sent():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    opened = Opened(otlp_exporter(f"http://127.0.0.1:{port}"))
    opened.spans(100)
    assert opened.dropped == []  # nobody has waited to learn that it is dead
    opened.tracing.close(0.2)
    opened.ended()
    assert sum(opened.dropped) == 100


def test_without_a_collector_spans_have_ids_and_go_nowhere():
    opened = Opened(None)
    with opened.observer.span("rerank") as span:
        assert span.sampled
        assert int(span.trace_id, 16) != 0
    assert opened.tracing.close(1)


def test_a_trace_that_is_sampled_out_is_not_sent():
    gate = Gate()
    gate.open.set()
    opened = Opened(gate, sample_ratio=0.0)
    with opened.observer.span("rerank") as span:
        assert not span.sampled
    assert opened.tracing.close(5)
    assert gate.names == []


def test_an_attribute_is_cut_at_1024_characters():
    with OtlpSink() as sink:
        opened = Opened(otlp_exporter(sink.url))
        with opened.observer.span("rerank") as span:
            span.set(Attr.APPROVAL, "x" * 5_000)
        opened.tracing.close(5)
        (sent,) = sink.wait_for(1)
    assert len(sent["attributes"]["forebay.approval"]) == 1_024


@pytest.mark.parametrize(("capture_content", "told"), [(False, False), (True, True)])
def test_the_text_of_a_recorded_exception_leaves_only_with_capture_content(capture_content, told):
    sent = []

    class Keep(SpanExporter):
        def export(self, spans):
            sent.extend(spans)
            return SpanExportResult.SUCCESS

    opened = Opened(Keep(), capture_content=capture_content)
    tracer = opened.tracing.provider.get_tracer("a library")
    with pytest.raises(ValueError, match="secret"), tracer.start_as_current_span("theirs"):
        raise ValueError("secret")
    opened.tracing.close(5)
    (span,) = sent
    assert span.events[0].attributes["exception.type"] == "ValueError"
    assert span.status.status_code.name == "ERROR"
    assert ("secret" in span.to_json()) is told
