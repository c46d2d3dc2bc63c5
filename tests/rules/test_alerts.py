"""Each alert fires for its trouble and is quiet for what looks like it: Prometheus's own unit tests for rules."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.burn import slo_group
from dashboards.causes import cause_group
from dashboards.rules import SHORT, Alert, Recording, shortened
from dashboards.slos import SLOS
from tests.rules.cases import CASES
from tests.support import require

RULES = Path(__file__).parents[2] / "deploy/prometheus/rules"
ALERTS = {rule.name: rule for group in (slo_group(), cause_group()) for rule in group.rules if isinstance(rule, Alert)}


@pytest.fixture(scope="module")
def promtool():
    return require("promtool", "apt-get install prometheus")


def unit_test(promtool, tmp_path, series, alert, firing):
    """Run the committed rules over `series` and ask which alerts of that name fire in the end."""
    case = CASES[alert.name]
    labels = {"alertname": alert.name, "alertstate": "firing", "severity": alert.severity, "family": alert.family}
    described = ", ".join(f'{key}="{value}"' for key, value in sorted({**labels, **case.labels, "job": "j"}.items()))
    test = {
        "rule_files": [str(RULES / ("slo.yml" if alert.family == "slo" else "causes.yml"))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'ALERTS{{alertname="{alert.name}", alertstate="firing"}}',
                        "eval_time": f"{case.at}m",
                        "exp_samples": [{"labels": f"ALERTS{{{described}}}", "value": 1}] if firing else [],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_for_its_trouble(promtool, tmp_path, name):
    unit_test(promtool, tmp_path, CASES[name].fires, ALERTS[name], firing=True)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_quiet_for_what_looks_like_it(promtool, tmp_path, name):
    unit_test(promtool, tmp_path, CASES[name].quiet, ALERTS[name], firing=False)


def test_every_case_is_of_an_alert():
    assert CASES.keys() == ALERTS.keys()


def test_the_rules_are_accepted_by_prometheus(promtool):
    done = subprocess.run(
        [promtool, "check", "rules", *RULES.glob("*.yml")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_at_most_eight_alerts_wake_somebody():
    assert 1 <= sum(alert.severity == "critical" for alert in ALERTS.values()) <= 8


def test_a_burn_rate_can_be_reached():
    """A factor times the budget above 1 would be an alert that cannot fire."""
    assert all(14.4 * slo.budget < 1 for slo in SLOS if slo.pages)
    assert all(3 * slo.budget < 1 for slo in SLOS)


def test_a_summary_has_no_numbers_and_no_label_has_a_value():
    for alert in ALERTS.values():
        assert not any(letter.isdigit() for letter in alert.summary), alert.name
        assert "{{" not in alert.summary, alert.name
        assert "{{" in alert.description, alert.name


def test_every_rule_keeps_its_job():
    """Several jobs, such as staging and production, share one Prometheus: an alert must say whose it is."""
    for name, alert in ALERTS.items():
        assert re.search(r"(by|on) \([\w, ]*\bjob\b|{slo=", alert.expr), name


def test_a_shortened_rule_differs_in_its_durations_only():
    for group in (slo_group(), cause_group()):
        for long, short in zip(group.rules, shortened(group).rules, strict=True):
            expected = long.expr
            for duration, stand_in in SHORT.items():
                expected = expected.replace(f"[{duration}]", f"[{stand_in}]")
            assert short.expr == expected
            if isinstance(long, Recording):
                assert short.record == long.record
            else:
                assert short.hold == SHORT[long.hold]
