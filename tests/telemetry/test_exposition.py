import os
import shutil
import subprocess

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from telemetry.catalogue import METRICS, PHASE_DURATION_SECONDS
from telemetry.exposition import render
from telemetry.instruments import Instruments
from telemetry.logs import recording_logger
from telemetry.observe import Observer
from telemetry.testing import EXAMPLE_LABELS

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def observed(sampler):
    """Return instruments with one recorded value, and its trace's id."""
    instruments = Instruments(EXAMPLE_LABELS)
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    observer = Observer(provider, instruments, recording_logger([]))
    with observer.span("rerank") as span:
        observer.record(PHASE_DURATION_SECONDS, 0.02, "rerank")
    return instruments.registry, span.trace_id


def test_openmetrics_shows_a_sampled_trace_as_exemplar():
    registry, trace_id = observed(ALWAYS_ON)
    body, content_type = render(registry, OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert f'# {{trace_id="{trace_id}"}} 0.02'.encode() in body
    assert body.endswith(b"# EOF\n")


def test_a_trace_that_is_not_sampled_is_no_exemplar():
    registry, trace_id = observed(ALWAYS_OFF)
    body, _ = render(registry, OPEN_METRICS)
    assert trace_id.encode() not in body
    assert b"trace_id" not in body


def test_the_text_format_has_no_exemplars():
    registry, _ = observed(ALWAYS_ON)
    body, content_type = render(registry)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b"trace_id" not in body


def test_every_metric_is_told_with_its_type_and_meaning():
    body = render(Instruments(EXAMPLE_LABELS).registry)[0].decode()
    for row in METRICS:
        assert f"# TYPE {row.name} {row.kind}\n" in body
        assert f"# HELP {row.name} {row.help}\n" in body


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus")
def test_promtool_finds_nothing_to_say():
    registry, _ = observed(ALWAYS_ON)
    body, _ = render(registry)
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
