"""What the catalogue says is what is emitted: each row of it, and nothing else.

One broad run: scenes of a whole service in virtual time, one for each way in which a turn goes, and a real process for
what only a process does. What takes trouble of its own to bring about is listed with the test that does.
"""

import ast
import re
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry import catalogue
from telemetry.catalogue import ATTRIBUTES, LOG_EVENTS, METRICS, SPANS, Attr, LogEvent, Metric
from tests.flow.house import in_house
from tests.process import KEY, SIMULATED, Service
from tests.telemetry.otlp_sink import OtlpSink
from tests.telemetry.scenes import SCENES

ROOT = Path(__file__).parents[2]
IN_CATALOGUE = {"attributes.py", "catalogue.py", "labels.py", "metrics.py", "rows.py"}
WITHIN = 60.0  # seconds for a process to do what it is waited for

# Rows of features that are to come. The list only gets shorter: what the code uses must not stand here.
TO_COME = {
    "DOCUMENTS", "ERROR_CODE", "EXCEPTION_STACKTRACE", "GEN_AI_DATA_SOURCE_ID", "GEN_AI_REQUEST_MAX_TOKENS",
    "GEN_AI_REQUEST_TEMPERATURE", "GEN_AI_RESPONSE_MODEL", "WAIT_MS",
}  # fmt: skip

# The test that brings about what no scene here does: its file says the row's name.
ELSEWHERE = {
    "JOBS_RECOVERED_TOTAL": "unit/jobs/test_worker.py",
    "LOG_BLOCKED_LOOP": "telemetry/test_loop.py",
    "LOG_BUG": "flow/test_failures.py",
    "LOG_CHEAPER_ROUTE": "flow/test_cost_routing.py",
    "LOG_LABEL_REFUSED": "telemetry/test_setup.py",
    "LOG_RECOVERED": "contract/test_leases.py",
    "LOG_TEMPORAL": "contract/test_job_temporal.py",
    "job.dispatch": "contract/test_job_temporal.py",
    "DEPENDENCY_GONE": "contract/test_leases.py",
    "TELEMETRY_LOG_LINES_DROPPED_TOTAL": "telemetry/test_setup.py",
    "EXCEPTION_TYPE": "telemetry/test_tracing.py",
    "suggestions": "contract/test_suggestions.py",
    "INSTEAD_OF": "flow/test_cost_routing.py",
}

# What OpenTelemetry's instrumentation puts on the SERVER span beside our rows: the stable conventions for HTTP.
HTTP = {
    "client.address", "client.port", "http.request.method", "network.protocol.version", "url.path", "url.scheme",
    "user_agent.original",
}  # fmt: skip

NAMES = {
    **{row: name for name, row in vars(catalogue).items() if isinstance(row, Metric | LogEvent)},
    **{key: name for name, key in vars(Attr).items() if name.isupper()},
    **{row: row.name for row in SPANS},
}


@pytest.fixture(scope="module")
def scenes():
    """The recorders of all scenes."""

    def play(scene, more):
        async def scenario(house):
            await scene(house)
            return house.recorder

        return in_house(scenario, **more)

    return [play(scene, more) for scene, more in SCENES.items()]


# --- a process --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """A service whose collector hangs for a while, with a reader that reads nothing; what it shows and says."""
    with OtlpSink(hangs=True) as sink:
        config = f'[telemetry]\notlp_endpoint = "{sink.url}"\n[jobs]\nconcurrency = 1\n{SIMULATED}'
        with Service(tmp_path_factory.mktemp("rows"), config) as service:
            with _not_reading(service):
                until(lambda: service.metric("forebay_stream_queue_depth") > 0)
                with service.client() as client:
                    shown = client.get("/metrics").text
            for _ in range(3):
                _job(service)
            until(lambda: service.metric("forebay_jobs_queue_depth") > 0)
            with service.client() as client:
                shown += client.get("/metrics").text
            until(lambda: len(service.lines("job")) == 3)
            until(lambda: service.lines("telemetry_unreachable"))
            sink.release()
            until(lambda: _turn(service) and service.lines("telemetry_reachable"))
            with service.client() as client:
                shown += client.get("/metrics").text
            until(lambda: any(span["name"] == "job report" for span in sink.wait_for(1)))
            spans = sink.wait_for(1)
        return SimpleNamespace(shown=shown, spans=spans, said={line["event"] for line in service.log})


def _not_reading(service):
    """A connection with a long answer under way that is never read."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    body = b'{"session_id": "s", "message": "hello", "model": "sim:ttft_ms=0,interval_ms=0,tokens=100000"}'
    connection = socket.create_connection((host, int(port)))
    head = (
        f"POST /chat/stream HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def _turn(service):
    with service.client() as client:
        ask = {"session_id": "s", "message": "hello", "model": "sim:ttft_ms=1,tokens=2,interval_ms=1"}
        return client.post("/chat/stream", json=ask).status_code == 200


def _job(service):
    with service.client() as client:
        report = {"question": "What is case C-1042 about?", "model": "sim:ttft_ms=300,tokens=20,interval_ms=1"}
        assert client.post("/jobs", json={"kind": "report", "input": report}).status_code == 202


def until(condition):
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)  # real time: the service is another process


# --- what is held against what ----------------------------------------------------------------------------------------


def missing(wanted, emitted):
    """The names of `wanted` rows that were not emitted, are not to come, and are no other test's."""
    return sorted(NAMES[row] for row in set(wanted) - set(emitted) if NAMES[row] not in TO_COME | ELSEWHERE.keys())


def test_every_metric_moves(scenes, process):
    moved = {row for recorder in scenes for row in recorder.emitted}
    families = {
        sample.name.removesuffix("_count")
        for family in text_string_to_metric_families(process.shown)
        for sample in family.samples
        if sample.value > 0
    }
    moved |= {row for row in METRICS if row.name in families}
    assert missing(METRICS, moved) == []


def test_every_event_of_the_log_is_written_and_no_other(scenes, process):
    told = {line["event"] for recorder in scenes for line in recorder.logs}
    ours = {name for name in process.said if " " not in name}  # the lines of uvicorn are sentences
    written = told | ours
    assert missing(LOG_EVENTS, {row for row in LOG_EVENTS if row.name in written}) == []
    assert written <= {row.name for row in LOG_EVENTS}


def test_every_span_is_made_and_no_other(scenes, process):
    spans = [span for recorder in scenes for span in recorder.spans] + process.spans
    rows = {name: _row_of(name) for name in {span["name"] for span in spans}}
    assert missing(SPANS, rows.values()) == []
    assert None not in rows.values(), rows


def _row_of(name):
    """The row of a span's name, in which `{…}` stands for anything."""
    patterns = {
        re.sub(r"\\{.*?\\}", ".+", re.escape(row.name)): row for row in reversed(SPANS)
    }  # the first one fits them all
    return next((row for pattern, row in patterns.items() if re.fullmatch(pattern, name)), None)


def test_every_attribute_is_set_and_no_other(scenes, process):
    spans = [span for recorder in scenes for span in recorder.spans] + process.spans
    names = {name for span in spans for name in span["attributes"]}
    names |= {name for span in spans for _, attributes in span["events"] for name in attributes}
    assert missing(ATTRIBUTES, names) == []
    assert names <= ATTRIBUTES.keys() | HTTP


def test_what_is_to_come_is_not_there_yet():
    """When this fails a feature has come: take its rows off the list, and play a scene that emits them."""
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for folder in ("service", "telemetry")
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in IN_CATALOGUE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    assert used & TO_COME == set()
    assert set(NAMES.values()) >= TO_COME


@pytest.mark.parametrize(("name", "path"), ELSEWHERE.items())
def test_what_no_scene_shows_another_test_does(name, path):
    row = next(row for row, known in NAMES.items() if known == name)
    text = (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert any(word in text for word in (name, getattr(row, "name", row)))
