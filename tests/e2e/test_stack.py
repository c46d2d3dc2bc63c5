"""The compose stack and its configurations, as far as they can be checked without a container engine."""

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from dashboards.burn import slo_group
from dashboards.causes import CAUSES
from dashboards.rules import Alert
from service.server.limits import ServerLimits
from service.server.run import Serving
from service.settings_groups import BudgetSettings, ServerSettings
from tests.e2e.support import ROOT, Inbox, script
from tests.support import PATIENCE, require

OURS = ("forebay", "alerts", "traffic")
FLUSH = 3.0 + 0.5  # seconds that telemetry takes at most at the end


def run(*command, **more):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=ROOT, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compose():
    """What Docker Compose makes of the file, with every profile."""
    program = Path(os.sys.executable).with_name("docker-compose")
    return json.loads(run(program, "--profile", "demo", "config", "--format", "json"))


def test_compose_takes_the_file(compose):
    expected = {"forebay", "jaeger", "prometheus", "alertmanager", "alerts", "grafana", "traffic"}
    assert compose["services"].keys() == expected
    assert compose["services"]["traffic"]["profiles"] == ["demo"]


def test_nothing_is_published_beyond_loopback(compose):
    for name, service in compose["services"].items():
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name


def test_every_image_is_pinned_and_every_memory_bounded(compose):
    for name, service in compose["services"].items():
        assert int(service["mem_limit"]) > 0, name
        assert name in OURS or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_every_server_has_a_health_check(compose):
    for name, service in compose["services"].items():
        if name == "forebay":  # its image brings one
            assert "HEALTHCHECK" in (ROOT / "deploy/Dockerfile").read_text()
        else:
            assert service["healthcheck"].get("test") or service["healthcheck"]["disable"], name


def test_our_containers_have_no_rights_and_write_nowhere_but_to_their_data(compose):
    for name in OURS:
        service = compose["services"][name]
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_whatever_is_mounted_is_there(compose):
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            assert volume["type"] == "volume" or Path(volume["source"]).exists(), volume


def test_the_service_may_end_in_peace(compose):
    """Longer than the drain, every wait after it, the last write and the last spans."""
    grace = float(compose["services"]["forebay"]["stop_grace_period"].removesuffix("m0s")) * 60
    settings = ServerSettings()
    fields = {field.name for field in dataclasses.fields(Serving)}
    given = {"make_app": None, "drain_seconds": settings.drain_seconds, "limits": ServerLimits(), "trusted_proxies": ()}
    serving = Serving(**{name: value for name, value in given.items() if name in fields})
    persist = 2 * BudgetSettings().finalization_ms / 1e3
    assert grace > serving.grace_seconds + persist + FLUSH


def test_the_image_is_made_from_the_lock_file_and_runs_as_nobody():
    text = (ROOT / "deploy/Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(stages) == 2
    assert all(re.search(r":\d+\.\d+\.\d+-", stage) for stage in stages)
    assert "--require-hashes" in text
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", text, re.MULTILINE)
    wanted = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    for path in " ".join(wanted).split():
        assert (ROOT / path).exists()
        assert f"!{path}" in ignored


def test_prometheus_takes_its_configuration():
    run(require("promtool", "apt-get install prometheus"), "check", "config", ROOT / "deploy/prometheus/prometheus.yml")


def test_alertmanager_takes_its_configuration():
    amtool = require("amtool", "apt-get install prometheus-alertmanager")
    run(amtool, "check-config", ROOT / "deploy/alertmanager/alertmanager.yml")


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_alertmanager_routes_every_alert_to_the_receiver(severity):
    amtool = require("amtool", "apt-get install prometheus-alertmanager")
    config = ROOT / "deploy/alertmanager/alertmanager.yml"
    told = run(
        amtool, "config", "routes", "test", f"--config.file={config}", "alertname=ForebayBug", f"severity={severity}"
    )
    assert told.strip() == "alerts"


@pytest.mark.parametrize("name", ["jaeger.yml", "tail-sampling.yml"])
def test_jaegers_pipelines_are_made_of_what_is_defined(name):
    config = yaml.safe_load((ROOT / "deploy/jaeger" / name).read_text())
    between = config["connectors"].keys()
    for pipeline in config["service"]["pipelines"].values():
        assert set(pipeline["receivers"]) <= config["receivers"].keys() | between
        assert set(pipeline["exporters"]) <= config["exporters"].keys() | between
        assert set(pipeline.get("processors", ())) <= config["processors"].keys()
    assert set(config["service"]["extensions"]) == config["extensions"].keys()
    storage = config["extensions"]["jaeger_storage"]
    asked = config["extensions"]["jaeger_query"]["storage"]
    assert asked["traces"] in storage["backends"]
    assert asked["metrics"] in storage["metric_backends"]
    assert config["exporters"]["jaeger_storage_exporter"]["trace_storage"] in storage["backends"]


def test_tail_sampling_waits_for_the_longest_stream():
    config = yaml.safe_load((ROOT / "deploy/jaeger/tail-sampling.yml").read_text())
    wait = float(config["processors"]["tail_sampling"]["decision_wait"].removesuffix("s"))
    assert wait > BudgetSettings().total_ms / 1e3 + 5


def test_grafana_is_given_the_boards_and_leads_from_exemplars_to_traces(compose):
    provisioning = ROOT / "deploy/grafana/provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/forebay.yml").read_text())["providers"]
    grafana = compose["services"]["grafana"]
    mounted = {volume["target"]: volume["source"] for volume in grafana["volumes"]}
    assert Path(mounted[provider["options"]["path"]]) == ROOT / "dashboards/generated"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "dashboards/generated" / home.name).exists()
    sources = yaml.safe_load((provisioning / "datasources/forebay.yml").read_text())["datasources"]
    by_uid = {source["uid"]: source for source in sources}
    (first, *_) = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert first["name"] == "trace_id"
    assert by_uid[first["datasourceUid"]]["type"] == "jaeger"
    asked = by_uid["jaeger"]["jsonData"]["tracesToMetrics"]
    assert asked["datasourceUid"] in by_uid
    assert not any(re.search(r"(?<!\$)\$(?!\$)", query["query"]) for query in asked["queries"])


def test_prometheus_scrapes_the_services_that_are_there(compose):
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = [target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]]
    hosts = {target.partition(":")[0] for target in targets} - {"localhost"}
    assert hosts <= compose["services"].keys()
    assert "--enable-feature=exemplar-storage" in compose["services"]["prometheus"]["command"]


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_parts():
    text = (ROOT / "deploy/runbook.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.+?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    alerts = {rule.name for rule in (*slo_group().rules, *CAUSES) if isinstance(rule, Alert)}
    assert sections.keys() == alerts
    for name, section in sections.items():
        for part in ("**Users feel:**", "**Confirm:**", "```promql", "**Likely causes:**", "**Do:**", "**Over when:**"):
            assert part in section, f"{name} says nothing of {part}"
    assert set(re.findall(r"\(#(\w+)\)", text)) <= {name.lower() for name in alerts}


def test_the_receiver_shows_alerts_and_leads_into_the_runbook():
    labels = {"alertname": "ForebayBug", "severity": "warning", "job": "<b>"}
    links = {"runbook_url": "http://127.0.0.1:9095/runbook#forebaybug"}
    alert = {"status": "firing", "labels": labels, "annotations": links, "startsAt": "", "endsAt": ""}
    with Inbox() as inbox, httpx.Client(base_url=inbox.url, trust_env=False) as client:
        assert client.post("/", json={"alerts": [alert]}).status_code == 200
        assert client.post("/", content=b"nonsense").status_code == 400
        shown = client.get("/").text
        assert "ForebayBug" in shown
        assert "&lt;b&gt;" in shown
        assert '<a href="http://127.0.0.1:9095/runbook#forebaybug">' in shown
        assert '<b id="forebaybug">' in client.get("/runbook").text
        assert client.get("/other").status_code == 404


def test_the_demo_takes_its_key_from_the_variable_or_from_the_file(tmp_path, monkeypatch):
    traffic = script(ROOT / "deploy/demo/traffic.py")
    (tmp_path / "demo.key").write_text("fb_from_file\n")
    monkeypatch.delenv("FOREBAY_KEY", raising=False)
    assert traffic.key_of(tmp_path / "demo.key") == "fb_from_file"
    monkeypatch.setenv("FOREBAY_KEY", "fb_from_variable")
    assert traffic.key_of(tmp_path / "demo.key") == "fb_from_variable"


def test_the_rules_for_kubernetes_are_the_same_rules():
    theirs = yaml.safe_load((ROOT / "deploy/kubernetes/prometheusrule.yaml").read_text())["spec"]["groups"]
    paths = [ROOT / "deploy/prometheus/rules" / name for name in ("slo.yml", "causes.yml")]
    assert theirs == [group for path in paths for group in yaml.safe_load(path.read_text())["groups"]]
