# ruff: noqa: INP001, S603, S607  # a script that is run by its path and starts programs
"""Makes the pictures: a real run of the service under the demo's traffic, watched by the real Prometheus, then drawn.

`python deploy/pictures/run.py --minutes 8`, from the repository's root and its .venv; README.md says what is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dashboards.burn import slo_group
from dashboards.causes import cause_group
from dashboards.rules import Links, rules_file
from tests.e2e.support import ROOT, Prometheus
from tests.process import KEY, Service, events
from tests.telemetry.otlp_sink import OtlpSink

PAGE = Path(__file__).parent / "page"
CONFIG = """
[limits]
requests = 80
queue = 60
tenant_queue = 50
[budgets]
emit_ms = 2000
[telemetry]
otlp_endpoint = "{collector}"
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 1000
"""
MODEL = "sim:ttft_ms=180,tokens=60,interval_ms=12,tool=case_lookup"
QUESTION = "Summarize case C-1042 and identify whether escalation review is needed."


def main() -> None:
    """Build the page, run, draw while the users are still there, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    minutes = parser.parse_args().minutes
    subprocess.run(["npx", "vite", "build"], cwd=PAGE, check=True)
    rules = rules_file([slo_group(), cause_group()], Links(), "5s")
    with tempfile.TemporaryDirectory() as name, OtlpSink() as collector:
        folder = Path(name)
        config = CONFIG.format(collector=collector.url)
        with Service(folder / "service", config) as service, Prometheus(folder, rules=rules, every="2s") as prometheus:
            prometheus.watch(forebay=[service])
            with users(service) as traffic:
                live_through(service, minutes * 60)
                (PAGE / "dist/trace.json").write_text(json.dumps(trace_of(service, collector)), encoding="utf-8")
                environ = {**os.environ, "PROMETHEUS": prometheus.url, "MINUTES": str(minutes)}
                subprocess.run(["node", "photograph.mjs"], cwd=PAGE, env=environ, check=True)
                traffic.terminate()


def users(service: Service) -> subprocess.Popen[bytes]:
    """Return the demo's users, at work."""
    script = [
        sys.executable,
        str(ROOT / "deploy/demo/traffic.py"),
        "--url",
        service.url,
        "--rate",
        "4",
        "--burst",
        "60",
    ]
    return subprocess.Popen(script, env={**os.environ, "FOREBAY_KEY": KEY})


def live_through(service: Service, seconds: float) -> None:
    """Let time pass, and a provider fail for a while in the middle of it."""
    time.sleep(seconds / 2)
    until = time.monotonic() + seconds / 8
    with service.client() as client:
        while time.monotonic() < until:
            body = {"session_id": "s", "message": QUESTION, "model": f"sim:status=503,seed={time.monotonic_ns()}"}
            client.post("/chat/stream", json=body)
    time.sleep(seconds * 3 / 8)


def trace_of(service: Service, collector: OtlpSink) -> list[dict[str, object]]:
    """One turn with a tool call, as the collector received it; times in milliseconds from its beginning."""
    body = {"session_id": "picture", "message": QUESTION, "model": MODEL, "grounding": "required"}
    with service.client() as client:
        answer = client.post("/chat/stream", json=body)
    trace_id = events(answer.text)[0][1]["trace_id"]
    told = {span["span_id"]: span for span in collector.trace(trace_id)}
    times = [times for body in collector.bodies for times in times_of(body) if times[0] in told]
    began = min(start for _, start, _ in times)
    return [
        {**told[span_id], "start": (start - began) / 1e6, "end": (end - began) / 1e6}
        for span_id, start, end in sorted(times, key=lambda one: one[1])
    ]


def times_of(body: bytes) -> list[tuple[str, int, int]]:
    """Return id, start and end in nanoseconds of each span of a batch of OTLP."""
    request = ExportTraceServiceRequest.FromString(body)
    scopes = (scope for resource in request.resource_spans for scope in resource.scope_spans)
    return [
        (span.span_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano)
        for scope in scopes
        for span in scope.spans
    ]


if __name__ == "__main__":
    main()
