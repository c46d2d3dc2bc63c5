import io
import json
import socket
import threading

import pytest

from telemetry import logs
from telemetry.catalogue import (
    LOG_STARTED,
    REQUESTS_STARTED_TOTAL,
    REQUESTS_TOTAL,
    TELEMETRY_LOG_LINES_DROPPED_TOTAL,
)
from telemetry.setup import Options, Telemetry
from telemetry.testing import EXAMPLE_LABELS
from tests.support import PATIENCE
from tests.telemetry.otlp_sink import OtlpSink


class Process:
    """Telemetry as one process has it, and what it wrote."""

    def __init__(self, **options):
        self.stream = io.StringIO()
        self.telemetry = Telemetry(Options(EXAMPLE_LABELS, {"service.name": "forebay"}, **options), self.stream)
        self.observer = self.telemetry.observer

    def lines(self):
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def shows(self, start):
        body = self.telemetry.render()[0].decode()
        return [line.rpartition(" ")[2] for line in body.splitlines() if line.startswith(start)]


@pytest.fixture
def process():
    opened = []

    def make(**options):
        opened.append(Process(**options))
        return opened[-1]

    yield make
    for one in opened:
        one.telemetry.close()


def test_a_refused_label_is_one_line_without_the_value_and_no_point(process):
    one = process()
    for _ in range(3):
        one.observer.inc(REQUESTS_TOTAL, "/chat/stream", "an attacker's words")
    one.observer.inc(REQUESTS_TOTAL, "/chat/stream", "completed")
    assert one.shows('forebay_requests_total{outcome="completed",route="/chat/stream"}') == ["1.0"]
    one.telemetry.close()
    assert [(line["event"], line["metric"]) for line in one.lines()] == [("label_refused", REQUESTS_TOTAL.name)]
    assert "attacker" not in one.stream.getvalue()


def test_spans_and_counts_leave_by_their_doors(process):
    with OtlpSink() as sink:
        one = process(otlp_endpoint=sink.url)
        with one.observer.span("rerank") as span:
            one.observer.inc(REQUESTS_STARTED_TOTAL, "/jobs")
        one.telemetry.close()
        assert [sent["trace_id"] for sent in sink.wait_for(1)] == [span.trace_id]
    assert one.shows('forebay_requests_started_total{route="/jobs"}') == ["1.0"]
    assert one.shows("forebay_telemetry_spans_dropped_total ") == ["0.0"]


def test_a_collector_that_is_not_there_is_told_once_and_what_was_lost_is_counted(process):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    one = process(otlp_endpoint=f"http://127.0.0.1:{port}")
    for _ in range(5):
        with one.observer.span("rerank"):
            pass
    one.telemetry.close(PATIENCE)
    assert one.shows("forebay_telemetry_spans_dropped_total ") == ["5.0"]
    assert [line["event"] for line in one.lines()] == ["telemetry_unreachable"]


class Stuck(io.StringIO):
    """A stream whose reader stands still."""

    def __init__(self):
        super().__init__()
        self.reads = threading.Event()

    def write(self, text):
        self.reads.wait(PATIENCE)
        return super().write(text)


def test_lines_that_their_reader_does_not_take_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(logs, "QUEUE_LINES", 4)
    stream = Stuck()
    telemetry = Telemetry(Options(EXAMPLE_LABELS, {"service.name": "forebay"}), stream)
    try:
        for _ in range(20):
            telemetry.observer.log(LOG_STARTED)
        shown = telemetry.render()[0].decode()
    finally:
        stream.reads.set()
        telemetry.close()
    written = len(stream.getvalue().splitlines())
    assert 4 <= written <= 5  # those in the queue, and the one in the writer's hands
    assert f"\n{TELEMETRY_LOG_LINES_DROPPED_TOTAL.name} {20.0 - written}\n" in shown


def test_a_version_that_was_named_is_the_one_in_force(process):
    assert process().shows('forebay_build_info{version="unknown"}') == ["1.0"]
