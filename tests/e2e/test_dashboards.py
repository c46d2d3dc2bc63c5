"""Every query of every panel shows data: mixed traffic with faults, the real Prometheus, the boards as committed."""

import json
import math
import os
import re
import subprocess
import sys

import pytest

from dashboards.burn import slo_group
from dashboards.causes import cause_group
from dashboards.promql import VARIABLES
from dashboards.rules import Links, rules_file, shortened
from tests.e2e.support import ROOT, Prometheus, until
from tests.process import KEY, Service

CONFIG = """
[limits]
requests = 60
queue = 40
tenant_queue = 30
queue_wait_ms = 800
[budgets]  # the shipped ones for what the traffic overruns
total_ms = 25_000
generation_ms = 20_000
first_token_ms = 3000
token_gap_ms = 5000
emit_ms = 1000
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 1000
[evaluation]
sample_ratio = 1.0
"""
PATIENCE = 120  # seconds for a rare deed of the traffic, or for a hole to close that a late scrape has left

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "dashboards/generated").glob("*.json"))}
QUERIES = [
    pytest.param(panel, target, id=f"{uid}: {panel['title']} {target['refId']}")
    for uid, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", ())
]
RUNBOOK = (ROOT / "deploy/runbook.md").read_text()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A Prometheus that has watched the service under the demo's traffic."""
    folder = tmp_path_factory.mktemp("boards")
    rules = rules_file([shortened(slo_group()), shortened(cause_group())], Links(), "1s")
    with Service(folder / "service", CONFIG) as service, Prometheus(folder, rules=rules, every="2s") as running:
        running.watch(forebay=[service])
        scraped = "forebay_build_info"  # before anything happens, or its first counts are lost
        until(lambda: running.query(scraped), PATIENCE, "the service is scraped")
        script = str(ROOT / "deploy/demo/traffic.py")
        command = [sys.executable, script, "--url", service.url, "--rate", "25", "--seconds", "3600", "--burst", "90"]
        with subprocess.Popen(command, env={**os.environ, "FOREBAY_KEY": KEY}) as traffic:
            yield running
            traffic.terminate()


def resolved(expression):
    """The query as Grafana sends it, with every variable on All."""
    named = re.sub(rf"\$({'|'.join(VARIABLES)})\b", ".*", expression)
    return named.replace("$__rate_interval", "20s")


def numbers(series):
    values = series["values"] if "values" in series else [series["value"]]
    return [float(value) for _, value in values]


@pytest.mark.parametrize(("panel", "target"), QUERIES)
def test_a_query_of_a_panel_shows_data(prometheus, panel, target):
    expression = resolved(target["expr"])
    ask = prometheus.query_range if target.get("range") else prometheus.query

    def data():
        found = ask(expression)
        return found if any(math.isfinite(number) for series in found for number in numbers(series)) else None

    found = until(data, PATIENCE, expression)
    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
        assert all(series["metric"].get(label) for series in found), f"no {label} in {expression}"
    if target["exemplar"]:

        def exemplars():
            return [
                one["labels"]["trace_id"] for series in prometheus.exemplars(expression) for one in series["exemplars"]
            ]

        traces = until(exemplars, PATIENCE, expression)
        assert all(re.fullmatch(r"[0-9a-f]{32}", trace) for trace in traces)


@pytest.mark.parametrize("uid", BOARDS)
def test_every_variable_of_a_board_has_values(prometheus, uid):
    for variable in BOARDS[uid]["templating"]["list"][1:]:
        asked = resolved(variable["query"]["query"])
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", asked).groups()
        found = until(lambda: prometheus.query(selector), PATIENCE, asked)  # noqa: B023  # asked before the next one
        assert all(series["metric"].get(label) for series in found), asked


@pytest.mark.parametrize("uid", BOARDS)
def test_the_marks_of_alerts_are_a_query(prometheus, uid):
    (marks,) = BOARDS[uid]["annotations"]["list"]
    prometheus.query(resolved(marks["expr"]))


@pytest.mark.parametrize("query", re.findall(r"```promql\n(.+?)```", RUNBOOK, re.DOTALL))
def test_a_query_of_the_runbook_runs(prometheus, query):
    prometheus.query(query)
