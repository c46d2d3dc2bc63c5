"""What is written past prometheus_client's checks is exported as what it would have written itself."""

import math
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import generate_latest

from telemetry.catalogue import PHASE_DURATION_SECONDS, REQUESTS_IN_FLIGHT, REQUESTS_STARTED_TOTAL
from telemetry.instruments import Instruments
from telemetry.observe import Observer
from telemetry.testing import EXAMPLE_LABELS, recording_observer
from telemetry.tracing import open_tracing

ROUTE, PHASE = "/chat/stream", "rerank"
AMOUNT = st.floats(-1e6, 1e6) | st.sampled_from([*PHASE_DURATION_SECONDS.bounds, 0, 1, math.inf, -math.inf])
MORE = st.floats(0, 1e6) | st.integers(0, 10)
TRACE = st.none() | st.text("0123456789abcdef", min_size=32, max_size=32)


class Both:
    """Two sets of metrics: one written to through ours, one through the library's own methods."""

    def __init__(self):
        self.ours = Instruments(EXAMPLE_LABELS)
        self.theirs = Instruments(EXAMPLE_LABELS)
        named = {
            collector._name: collector  # there is no other way to a metric by its name
            for collector in self.theirs.registry._collector_to_names
        }
        self.counter: Counter = named[REQUESTS_STARTED_TOTAL.name.removesuffix("_total")].labels(ROUTE)
        self.gauge: Gauge = named[REQUESTS_IN_FLIGHT.name].labels(ROUTE)
        self.histogram: Histogram = named[PHASE_DURATION_SECONDS.name].labels(PHASE)

    def agree(self, row):
        ours, theirs = (
            generate_latest(one.registry.restricted_registry([row.name, row.name + "_bucket", row.name + "_sum"]))
            for one in (self.ours, self.theirs)
        )
        assert row.name.encode() in ours
        return ours == theirs


@pytest.fixture(scope="module")
def both():
    return Both()  # values add up over the examples, which is as good


@given(st.lists(st.tuples(AMOUNT, TRACE), max_size=20))
def test_a_histogram_has_the_same_buckets_sum_and_exemplars(both, points):
    series = both.ours.histograms[PHASE_DURATION_SECONDS][PHASE,]
    with mock.patch("time.time", return_value=1e9):
        for amount, trace in points:
            example = trace and {"trace_id": trace}
            series.observe(amount, example)
            both.histogram.observe(amount, example)
    assert both.agree(PHASE_DURATION_SECONDS)


@given(st.lists(MORE), st.lists(AMOUNT), st.none() | AMOUNT)
def test_a_counter_and_a_gauge_are_the_same(both, counted, added, told):
    observer = Observer(open_tracing_nowhere(), both.ours, None)
    for amount in counted:
        observer.inc(REQUESTS_STARTED_TOTAL, ROUTE, by=amount)
        both.counter.inc(amount)
    for amount in added:
        observer.add(REQUESTS_IN_FLIGHT, amount, ROUTE)
        both.gauge.inc(amount)
    if told is not None:
        observer.set(REQUESTS_IN_FLIGHT, told, ROUTE)
        both.gauge.set(told)
    assert both.agree(REQUESTS_STARTED_TOTAL)
    assert both.agree(REQUESTS_IN_FLIGHT)


def open_tracing_nowhere():
    nothing = {"sample_ratio": 0.0, "resource": {}, "on_dropped": None, "on_reached": None}
    return open_tracing(None, **nothing).provider


def test_a_counter_never_goes_down():
    observer, recorder = recording_observer()
    with pytest.raises(ValueError, match="requests_started_total"):
        observer.inc(REQUESTS_STARTED_TOTAL, ROUTE, by=-1)
    assert recorder.value(REQUESTS_STARTED_TOTAL, ROUTE) == 0
