"""REFERENCE.md, written from the catalogue: `python -m telemetry.reference` writes it, `--check` fails if it is old."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from telemetry.catalogue import ATTRIBUTES, LOG_EVENTS, METRICS, SPANS, LabelSet, Metric

PATH = Path(__file__).with_name("REFERENCE.md")

_METRICS = """# Telemetry reference

Written by `python -m telemetry.reference` from the catalogue; do not edit.

## Metrics

Every series exists from the start, at 0. A gauge says how the values of several workers become one.
"""
_LABELS = """## Label values

Sets named in *italics* come from the configuration. A value outside its set becomes `other` where that is in the set,
as it is for tenants, tools and endpoints, and is dropped elsewhere.
"""


def reference() -> str:
    """Return the whole document."""
    parts = [
        _METRICS,
        _table(("metric", "type", "unit", "labels", "meaning"), map(_metric, METRICS)),
        _LABELS,
        _table(("label", "of", "values"), _label_sets()),
        "## Histogram bounds\n\nConfigured budgets and SLO thresholds are added at start.\n",
        _table(("metric", "bounds"), ((f"`{row.name}`", _list(row.bounds)) for row in METRICS if row.bounds)),
        "## Spans\n",
        _table(("span", "kind", "covers"), ((f"`{row.name}`", row.kind, row.meaning) for row in SPANS)),
        "## Attributes\n",
        _table(("attribute", "meaning"), ((f"`{name}`", meaning) for name, meaning in ATTRIBUTES.items())),
        "## Log events\n",
        _table(("event", "level", "meaning"), ((f"`{row.name}`", row.level, row.meaning) for row in LOG_EVENTS)),
    ]
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write the document, or with `--check` return 1 if it differs from the catalogue."""
    text = reference()
    if "--check" not in arguments:
        PATH.write_text(text)
        return 0
    if PATH.exists() and PATH.read_text() == text:
        return 0
    sys.stderr.write("telemetry/REFERENCE.md is old: run `python -m telemetry.reference`\n")
    return 1


def _metric(row: Metric) -> tuple[str, ...]:
    kind = f"gauge, {row.across} across workers" if row.kind == "gauge" else row.kind
    return f"`{row.name}`", kind, row.unit, ", ".join(f"`{name}`" for name in row.label_names) or "none", row.help


def _label_sets() -> Iterable[tuple[str, ...]]:
    used: dict[LabelSet, list[str]] = {}
    for row in METRICS:
        for label_set in row.labels:
            used.setdefault(label_set, []).append(f"`{row.short_name}`")
    for label_set, metrics in used.items():
        values = _list(value for (value,) in label_set.values) if label_set.values else f"*{label_set.source}*"
        yield ", ".join(f"`{name}`" for name in label_set.names), ", ".join(metrics), values


def _list(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
