"""A collector that is not there, or takes a connection and never answers, is no stream's business."""

import itertools
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.process import SIMULATED, Service
from tests.support import PROOF, until
from tests.telemetry.otlp_sink import OtlpSink

STREAMS = 8
TOKENS = 300
INTERVAL_MS = 5
LONGEST_GAP = 0.75 if PROOF else 4.5  # seconds: a machine's hiccup; an export that a stream waited for would take five
ENDS = 25.0  # seconds; the sink would keep an export for thirty


@contextmanager
def nobody():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def hanging():
    """An address at which every batch is taken and none is answered."""
    with OtlpSink(hangs=True) as sink:
        yield sink.url


@pytest.fixture(params=[nobody, hanging])
def service(request, tmp_path):
    with request.param() as url, Service(tmp_path, f'[telemetry]\notlp_endpoint = "{url}"\n{SIMULATED}') as running:
        yield running


def gaps(service, session):
    """The seconds between the tokens of one stream, as its client sees them."""
    model = f"sim:ttft_ms=1,tokens={TOKENS},interval_ms={INTERVAL_MS}"
    ask = {"session_id": session, "message": "What is case C-1042 about?", "model": model}
    with service.client() as client, client.stream("POST", "/chat/stream", json=ask) as answer:
        seen = [time.monotonic() for line in answer.iter_lines() if line == "event: token_delta"]
    assert len(seen) == TOKENS
    return [after - before for before, after in itertools.pairwise(seen)]


def test_streams_flow_while_the_collector_does_not_answer_and_what_it_missed_is_counted(service):
    with ThreadPoolExecutor(STREAMS) as clients:
        for _ in range(2):  # the spans of the first round are being sent, in vain, during the second
            rounds = [clients.submit(gaps, service, f"s{n}") for n in range(STREAMS)]
            assert max(max(one.result()) for one in rounds) < LONGEST_GAP
    until(lambda: service.lines("telemetry_unreachable"), what="nobody is told that spans are lost")
    until(lambda: service.metric("forebay_telemetry_spans_dropped_total") > 0)
    with service.client() as client:
        until(lambda: client.get("/readyz").json()["dependencies"]["telemetry"] == "failed")
        assert client.get("/readyz").status_code == 200
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < ENDS
    assert not service.lines("bug")
