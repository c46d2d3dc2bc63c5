"""From a bar of the latency histogram to the trace behind it, by the real Prometheus, which scrapes the service."""

import json
import re
import subprocess
import time

import httpx
import pytest

from tests.process import SIMULATED, Service
from tests.support import require

INSTALL = "apt-get install prometheus"
SLOW = 0.6  # seconds to the slow request's first token
WITHIN = 40.0  # seconds for Prometheus to start, scrape and answer
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: forebay
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service"), SIMULATED) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(service, tmp_path_factory):
    """A Prometheus that keeps exemplars; yields a client of its API."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(target=service.url.removeprefix("http://")))
    command = [
        require("prometheus", INSTALL),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
    ]
    log = folder / "log"
    with log.open("w") as writing:
        process = subprocess.Popen(command, stdout=writing, stderr=writing)
    try:
        address = until(lambda: re.search(r'msg="Listening on" address=(\S+)', log.read_text()))[1]
        with httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def ask(service, **sim):
    """One turn; return its trace id."""
    model = "sim:" + ",".join(f"{name}={value}" for name, value in sim.items())
    body = {"session_id": "s1", "message": "What is case C-1042 about?", "model": model}
    with service.client() as client:
        answer = client.post("/chat/stream", json=body)
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


def until(found, seconds=WITHIN):
    """Return what `found()` returns once it is something: Prometheus takes its own time to look."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if result := found():
                return result
        except (httpx.TransportError, json.JSONDecodeError):
            pass  # it is starting
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)  # real time: another program's


def exemplars(prometheus, query):
    answer = prometheus.get("/query_exemplars", params={"query": query, "start": "0", "end": f"{time.time() + 60}"})
    return [exemplar for series in answer.json().get("data", ()) for exemplar in series["exemplars"]]


def test_the_trace_of_a_slow_request_is_found_behind_the_bar_that_it_raised(service, prometheus):
    fast = {ask(service, ttft_ms=1, tokens=2, interval_ms=1) for _ in range(5)}
    slow = ask(service, ttft_ms=round(SLOW * 1e3), tokens=2, interval_ms=1)
    query = "forebay_time_to_first_token_seconds_bucket"
    found = until(lambda: [one for one in exemplars(prometheus, query) if float(one["value"]) >= SLOW])
    assert [one["labels"] for one in found] == [{"trace_id": slow}]
    others = {one["labels"]["trace_id"] for one in exemplars(prometheus, query)} - {slow}
    assert others
    assert others <= fast


def test_a_phase_s_histogram_leads_to_the_same_trace(service, prometheus):
    slow = ask(service, ttft_ms=round(2 * SLOW * 1e3), tokens=2, interval_ms=1)
    query = 'forebay_phase_duration_seconds_bucket{phase="model.stream"}'
    found = until(lambda: [one for one in exemplars(prometheus, query) if float(one["value"]) >= 2 * SLOW])
    assert {one["labels"]["trace_id"] for one in found} == {slow}


def test_the_scrape_succeeds_and_finds_the_requests_counted(service, prometheus):
    ask(service, ttft_ms=1, tokens=2, interval_ms=1)
    query = {"query": 'sum(forebay_requests_total{outcome="completed"}) and on() up{job="forebay"} == 1'}
    count = service.metric("forebay_requests_total", outcome="completed")

    def seen():
        result = prometheus.get("/query", params=query).json()["data"]["result"]
        return result and float(result[0]["value"][1]) >= count

    assert until(seen)
