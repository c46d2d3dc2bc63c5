"""PromQL made from rows of the catalogue: a metric, label or value that does not exist is an error, not an empty panel.

Boards show series through their variables (`shown`), rules see every series (`every`).
"""

from __future__ import annotations

import re

from telemetry.catalogue import Metric

VARIABLES = ("job", "instance", "route", "model", "tenant")  # of every board, so that links keep them
SCRAPED = ("job", "instance")  # labels that Prometheus itself adds

_MATCHER = re.compile(r'(?P<label>\w+)(?P<operator>=~|!~|!=|=)"(?P<value>[^"]*)"')


def every(row: Metric, *matchers: str, part: str = "") -> str:
    """Return the selector of a metric's series.

    Args:
        row: the metric.
        matchers: such as `outcome=~"ok|error"`; label and values must be those of the row.
        part: of a histogram: `bucket`, `count` or `sum`.

    Raises:
        ValueError: a label, a value or a part that the row has not.
    """
    if bool(part) != (row.kind == "histogram"):
        raise ValueError(f"{row.name} is a {row.kind}: part {part!r}")
    for matcher in matchers:
        _check(row, matcher)
    name = f"{row.name}_{part}" if part else row.name
    return name + (f"{{{', '.join(matchers)}}}" if matchers else "")


def shown(row: Metric, *matchers: str, part: str = "") -> str:
    """Return the selector of those series that a board's variables pick."""
    picked = (f'{name}=~"${name}"' for name in VARIABLES if name in SCRAPED or name in row.label_names)
    return every(row, *picked, *matchers, part=part)


def rate(row: Metric, *matchers: str, by: str = "", part: str = "") -> str:
    """Return a board's rate per second of a counter, summed by labels such as `phase, outcome`."""
    return f"{_sum(by)} (rate({shown(row, *matchers, part=part)}[$__rate_interval]))"


def level(row: Metric, *matchers: str, by: str = "") -> str:
    """Return a board's present value of a gauge, summed by labels."""
    return f"{_sum(by)} ({shown(row, *matchers)})"


def most(row: Metric, *matchers: str, by: str = "") -> str:
    """Return the largest present value of a gauge that every process says of the same thing, such as a budget."""
    return f"max by ({by}) ({shown(row, *matchers)})" if by else f"max ({shown(row, *matchers)})"


def ratio(part: str, whole: str) -> str:
    """Return one expression divided by another."""
    return f"{part}\n/ {whole}"


def quantile(q: float, row: Metric, *matchers: str, by: str = "") -> str:
    """Return a board's quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(row, *matchers, by=labels, part='bucket')})"


def metrics_of(expression: str) -> list[str]:
    """Return the names of Forebay's metrics and recorded series in an expression, each once, in order."""
    return list(dict.fromkeys(re.findall(r"forebay[_:][\w:]+", expression)))


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"


def _check(row: Metric, matcher: str) -> None:
    found = _MATCHER.fullmatch(matcher)
    if found is None:
        raise ValueError(f"{matcher!r} is no matcher")
    label, values = found["label"], found["value"].split("|")
    if label in (*SCRAPED, "le"):
        return
    sets = [label_set for label_set in row.labels if label in label_set.names]
    if not sets:
        raise ValueError(f"{row.name} has no label {label!r}: {row.label_names}")
    known = [value[sets[0].names.index(label)] for value in sets[0].values]
    for value in values if known and "$" not in found["value"] else ():
        pattern = re.escape(value) if "~" not in found["operator"] else value
        if not any(re.fullmatch(pattern, name) for name in known):
            raise ValueError(f"{row.name} has no {label}={value!r}: {known}")
