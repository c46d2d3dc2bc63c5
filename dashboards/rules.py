"""What a Prometheus rule is, as plain values, and how rules become files: for Prometheus, for Kubernetes, for tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for this one call

Severity = Literal["critical", "warning"]  # critical pages, warning makes a ticket

# Durations for tests: the same rules, with an hour gone in seconds. What is not here may not stand in a rule.
SHORT = {
    "1m": "2s",
    "2m": "4s",
    "5m": "6s",
    "10m": "8s",
    "15m": "10s",
    "30m": "12s",
    "1h": "12s",
    "2h": "16s",
    "6h": "16s",
    "1d": "30s",
    "3d": "30s",
}


@dataclass(frozen=True)
class Recording:
    """A series that is computed once for all who ask."""

    record: str
    expr: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Alert:
    """An alert.

    Attributes:
        name: CamelCase, with the prefix `Forebay`.
        family: what kind of trouble; of each family one alert is made to fire for real in tests.
        severity: `critical` pages somebody, `warning` makes a ticket.
        expr: fires for each series of its result.
        hold: for how long it must hold.
        summary: what is wrong, without numbers.
        description: the same with its numbers; Prometheus's templates.
        board: uid of the board to open.
    """

    name: str
    family: str
    severity: Severity
    expr: str
    hold: str
    summary: str
    description: str
    board: str


@dataclass(frozen=True)
class Links:
    """Where alerts point to: the base addresses of the runbook and of Grafana."""

    runbook: str = "http://127.0.0.1:9095/runbook"
    grafana: str = "http://127.0.0.1:3000"


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, in their order."""

    name: str
    rules: Sequence[Recording | Alert]

    def to_dict(self, links: Links, interval: str = "30s") -> dict[str, Any]:
        """Return the group as Prometheus reads it."""
        return {"name": self.name, "interval": interval, "rules": [_rule(rule, links) for rule in self.rules]}


def shortened(group: Group) -> Group:
    """Return the same rules with every duration in them shortened by SHORT, and nothing else changed."""
    return replace(group, rules=[_shortened(rule) for rule in group.rules])


def rules_file(groups: Sequence[Group], links: Links, interval: str = "30s") -> str:
    """Return a rules file for Prometheus."""
    return _yaml({"groups": [group.to_dict(links, interval) for group in groups]})


def prometheus_rule(groups: Sequence[Group], links: Links) -> str:
    """Return the same rules as the Prometheus Operator wants them."""
    return _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "forebay", "labels": {"app.kubernetes.io/name": "forebay"}},
            "spec": {"groups": [group.to_dict(links) for group in groups]},
        }
    )


def _rule(rule: Recording | Alert, links: Links) -> dict[str, Any]:
    if isinstance(rule, Recording):
        told: dict[str, Any] = {"record": rule.record, "expr": _Text(rule.expr)}
        return {**told, "labels": dict(rule.labels)} if rule.labels else told
    return {
        "alert": rule.name,
        "expr": _Text(rule.expr),
        "for": rule.hold,
        "labels": {"severity": rule.severity, "family": rule.family},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{links.runbook}#{rule.name.lower()}",
            "dashboard_url": f"{links.grafana}/d/{rule.board}",
        },
    }


def _shortened(rule: Recording | Alert) -> Recording | Alert:
    expr = re.sub(r"\[(\w+)\]", lambda found: f"[{SHORT[found[1]]}]", rule.expr)
    return replace(rule, expr=expr) if isinstance(rule, Recording) else replace(rule, expr=expr, hold=SHORT[rule.hold])


class _Text(str):
    """A string that stands in the file as it is, over several lines."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # untyped, as above
    """Writes _Text as a literal block, and nothing as a reference."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # yaml's signature
        return True


def _represent(dumper: _Dumper, text: _Text) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|" if "\n" in text else None)


_Dumper.add_representer(_Text, _represent)


def _yaml(content: dict[str, Any]) -> str:
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return f"# Written by `python -m dashboards`; do not edit.\n{body}"
