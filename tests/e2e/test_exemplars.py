"""From a bar of the latency histogram to the trace behind it, by the real Prometheus, which scrapes the service."""

import pytest

from tests.e2e.support import PATIENCE, Prometheus, until
from tests.process import SIMULATED, Service

SLOW = 1.0  # seconds to the slow request's first token


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service"), SIMULATED) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(service, tmp_path_factory):
    with Prometheus(tmp_path_factory.mktemp("prometheus")) as running:
        running.watch(forebay=[service])
        yield running


def ask(service, **sim):
    """One turn; return its trace id."""
    model = "sim:" + ",".join(f"{name}={value}" for name, value in sim.items())
    body = {"session_id": "s1", "message": "What is case C-1042 about?", "model": model}
    with service.client() as client:
        answer = client.post("/chat/stream", json=body)
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


def traces(prometheus, query, above=0.0):
    """The ids of the traces behind a histogram's bars, of values from `above` on."""
    found = [one for series in prometheus.exemplars(query) for one in series["exemplars"]]
    return {one["labels"]["trace_id"] for one in found if float(one["value"]) >= above}


def test_the_trace_of_a_slow_request_is_found_behind_the_bar_that_it_raised(service, prometheus):
    fast = {ask(service, ttft_ms=1, tokens=2, interval_ms=1) for _ in range(5)}
    slow = ask(service, ttft_ms=round(SLOW * 1e3), tokens=2, interval_ms=1)
    query = "forebay_time_to_first_token_seconds_bucket"
    until(lambda: slow in traces(prometheus, query, above=SLOW), PATIENCE, lambda: prometheus.exemplars(query))
    assert traces(prometheus, query) & fast, "the bars of fast requests have traces of their own"


def test_a_phase_s_histogram_leads_to_the_same_trace(service, prometheus):
    slow = ask(service, ttft_ms=round(2 * SLOW * 1e3), tokens=2, interval_ms=1)
    query = 'forebay_phase_duration_seconds_bucket{phase="model.stream"}'
    until(lambda: slow in traces(prometheus, query, above=2 * SLOW), PATIENCE, lambda: prometheus.exemplars(query))


def test_the_scrape_succeeds_and_finds_the_requests_counted(service, prometheus):
    ask(service, ttft_ms=1, tokens=2, interval_ms=1)
    query = 'sum(forebay_requests_total{outcome="completed"}) and on() up{job="forebay"} == 1'
    count = service.metric("forebay_requests_total", outcome="completed")
    until(lambda: (found := prometheus.query(query)) and float(found[0]["value"][1]) >= count, PATIENCE, query)
