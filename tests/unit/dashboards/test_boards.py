"""Boards can be imported as they are, can be read without asking anybody, and show everything there is."""

import json
import re

import pytest

from dashboards.__main__ import main
from dashboards.boards import BOARDS
from dashboards.burn import slo_group
from dashboards.causes import cause_group
from dashboards.promql import VARIABLES, every, metrics_of, shown
from dashboards.rules import Alert, Recording
from telemetry import catalogue as rows

RULES = [rule for group in (slo_group(), cause_group()) for rule in group.rules]
RECORDED = {rule.record for rule in RULES if isinstance(rule, Recording)}
LOADED = {board.uid: json.loads(board.to_json()) for board in BOARDS}
PANELS = [(uid, panel) for uid, board in LOADED.items() for panel in board["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(uid, target["expr"]) for uid, panel in PANELS for target in panel["targets"]]


def test_the_generated_files_are_what_the_code_says():
    assert main(["--check"]) == 0


def test_a_file_that_is_old_or_not_ours_is_told(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0
    generated = tmp_path / "dashboards/generated"
    (generated / "forebay-overview.json").write_text("{}")
    (generated / "extra.json").write_text("{}")
    assert main(["--out", str(tmp_path), "--check"]) == 1
    told = capsys.readouterr().err
    assert "forebay-overview.json is old" in told
    assert "extra.json is old" in told


def test_alerts_point_where_one_says(tmp_path):
    main(["--out", str(tmp_path), "--runbook", "https://wiki.example/forebay", "--grafana", "https://grafana.example"])
    rules = (tmp_path / "deploy/prometheus/rules/causes.yml").read_text()
    assert "runbook_url: https://wiki.example/forebay#forebaydown" in rules
    assert "dashboard_url: https://grafana.example/d/forebay-runtime" in rules


@pytest.mark.parametrize("uid", LOADED)
def test_a_board_has_ids_of_its_own_and_no_overlap(uid):
    board = LOADED[uid]
    assert board["uid"] == uid
    assert board["id"] is None
    assert "__inputs" not in board
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert 0 not in ids
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("uid", LOADED)
def test_a_board_has_at_most_a_dozen_panels_in_titled_rows(uid):
    panels = LOADED[uid]["panels"]
    assert panels[0]["type"] == "row"
    assert all(panel["title"] for panel in panels)
    assert sum(panel["type"] != "row" for panel in panels) <= 12


@pytest.mark.parametrize(("uid", "panel"), PANELS)
def test_a_panel_says_what_it_shows_what_to_do_and_what_it_reads(uid, panel):
    shows, when_bad, reads = panel["description"].split("\n\n")
    assert shows.endswith(".")
    assert when_bad.startswith("**If it looks bad:** ")
    for target in panel["targets"]:
        for name in metrics_of(target["expr"]):
            assert f"`{name}`" in reads


@pytest.mark.parametrize(("uid", "panel"), PANELS)
def test_a_panel_asks_the_chosen_data_source_and_names_its_queries(uid, panel):
    assert panel["datasource"]["uid"] == "${datasource}"
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == list("ABCDEFGHIJKLMNOP"[: len(letters)])
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["instant"] != target["range"] if "range" in target else target["instant"]
        if len(panel["targets"]) > 1 and panel["type"] != "table":
            assert target["legendFormat"], panel["title"]


@pytest.mark.parametrize(("uid", "expression"), EXPRESSIONS)
def test_a_query_takes_its_window_from_the_board_and_reads_only_what_exists(uid, expression):
    assert set(re.findall(r"\[([^\]]+)\]", expression)) <= {"$__rate_interval", "30d"}
    known = {f"{row.name}{part}" for row in rows.METRICS for part in ("", "_bucket", "_count", "_sum")}
    assert set(metrics_of(expression)) <= known | RECORDED


def test_every_metric_is_on_a_board():
    asked = {name for _, expression in EXPRESSIONS for name in metrics_of(expression)}
    parts = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    assert {row.name for row in rows.METRICS} <= parts


@pytest.mark.parametrize("uid", LOADED)
def test_every_board_carries_every_variable_and_its_links_keep_them(uid):
    board = LOADED[uid]
    named = [variable["name"] for variable in board["templating"]["list"]]
    assert named == ["datasource", *VARIABLES]
    (link,) = board["links"]
    assert link["keepTime"]
    assert link["includeVars"]
    assert link["tags"] == board["tags"]


@pytest.mark.parametrize("uid", LOADED)
def test_a_variable_that_is_shown_picks_something(uid):
    board = LOADED[uid]
    text = json.dumps([panel["targets"] for panel in board["panels"] if "targets" in panel])
    for variable in board["templating"]["list"][1:]:
        assert (variable.get("hide", 0) == 0) == (f"${variable['name']}" in text), variable["name"]


@pytest.mark.parametrize("uid", LOADED)
def test_a_board_needs_no_jaeger_and_marks_firing_alerts(uid):
    assert "jaeger" not in json.dumps(LOADED[uid]).lower()
    (marks,) = LOADED[uid]["annotations"]["list"]
    assert "ALERTS" in marks["expr"]


def test_an_alert_leads_to_a_board_that_exists():
    assert {rule.board for rule in RULES if isinstance(rule, Alert)} <= LOADED.keys()


def test_a_metric_a_label_or_a_value_that_does_not_exist_is_refused():
    for matcher in ('nothing="x"', 'phase="no.such"', 'phase=~"admission|no.such"', "phase"):
        with pytest.raises(ValueError, match=r"nothing|no\.such|no matcher"):
            every(rows.TIMEOUTS_TOTAL, matcher)
    with pytest.raises(ValueError, match="histogram"):
        every(rows.PHASE_DURATION_SECONDS)
    with pytest.raises(ValueError, match="counter"):
        every(rows.TIMEOUTS_TOTAL, part="bucket")


def test_a_selector_has_the_variables_whose_labels_the_metric_has():
    assert shown(rows.TIMEOUTS_TOTAL, 'limit="total"') == (
        'forebay_timeouts_total{job=~"$job", instance=~"$instance", limit="total"}'
    )
    assert 'tenant=~"$tenant"' in shown(rows.TENANT_TOKENS_TOTAL)
