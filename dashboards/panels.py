"""The house style of panels: what a stat, a line chart, a bar gauge and a table look like on every board.

Boards are made of these. Each panel says what it means and what to do when it looks bad; the metrics that it reads are
added to that by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal, TypeVar

from grafana_foundation_sdk.builders import bargauge, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.promql import metrics_of

SECONDS, SHARE, PER_SECOND, COUNT = "s", "percentunit", "suffix:/s", "short"
WIDE = 12  # of 24 columns
GOOD, WARN, BAD = "green", "orange", "red"
# One colour for one outcome, on every board.
OUTCOME_COLOURS = {
    "completed": "green",
    "degraded": "yellow",
    "rejected": "purple",
    "timed_out": "orange",
    "errored": "red",
    "cancelled": "blue",
}

Builder = TypeVar("Builder", stat.Panel, timeseries.Panel, bargauge.Panel, table.Panel)


@dataclass(frozen=True)
class Query:
    """One line of a panel.

    `exemplar` puts the traces behind a quantile on the chart; `limit` draws it dashed: a budget, a limit, an objective.
    """

    expr: str
    legend: str = ""
    exemplar: bool = False
    limit: bool = False


@dataclass(frozen=True)
class Says:
    """What a panel tells its reader: what it shows, and what to do when it looks bad."""

    shows: str
    when_bad: str

    def text(self, queries: Sequence[Query]) -> str:
        """Return the description, with the metrics that are read."""
        names = dict.fromkeys(name for query in queries for name in metrics_of(query.expr))
        reads = ", ".join(f"`{name}`" for name in names)
        return f"{self.shows}\n\n**If it looks bad:** {self.when_bad}\n\n**Reads:** {reads}"


def single(
    title: str, says: Says, query: Query, *, unit: str, steps: Sequence[tuple[float, str]] = (), width: int = 6
) -> dashboard.Panel:
    """One number, large, with its course behind it. `steps` are thresholds: (from, colour), in `unit`."""
    panel = (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .mappings([_no_traffic()])
        .no_value("no traffic")
    )
    return _finished(panel, title, says, [query], unit=unit, width=width, height=4)


def lines(
    title: str,
    says: Says,
    *queries: Query,
    unit: str,
    stacked: bool = False,
    steps: Sequence[tuple[float, str]] = (),
    colours: Mapping[str, str] | None = None,
    top: float | None = None,
    width: int = 12,
) -> dashboard.Panel:
    """Lines over time; `steps` are drawn as lines across, `top` is the least that the axis shows."""
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)  # noqa: FBT003  # the builder's way: a gap stays a gap
        .axis_soft_min(0)
        .legend(_legend(width))
        .tooltip(build.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(build.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if top is not None:
        panel.axis_soft_max(top)
    if steps:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(build.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        if query.limit:
            dashed = dashboard.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
            panel.override_by_query(letter, [dashed, dashboard.DynamicConfigValue("custom.fillOpacity", 0)])
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    return _finished(panel, title, says, queries, unit=unit, width=width, height=8)


def bars(
    title: str, says: Says, query: Query, *, steps: Sequence[tuple[float, str]], width: int = 12, height: int = 8
) -> dashboard.Panel:
    """Shares beside one another, each a bar from 0 to 100 %, as of now."""
    panel = (
        bargauge.Panel()
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .min(0)
        .max(1)
        .no_value("no traffic")
    )
    return _finished(panel, title, says, [query], unit=SHARE, width=width, height=height, shape="instant")


def grid(
    title: str, says: Says, *columns: tuple[str, Query, str], key: str, steps: Sequence[tuple[float, str]], height: int
) -> dashboard.Panel:
    """A table with a row for each value of the label `key`.

    Args:
        title: of the panel.
        says: its description.
        columns: (heading, query, unit); each query yields one number for each `key`.
        key: the label.
        steps: thresholds for the columns of unit SHARE, whose cells are coloured.
        height: in grid units.
    """
    panel = table.Panel().no_value("-")
    for number, (heading, _, unit) in enumerate(columns):
        wanted = [dashboard.DynamicConfigValue("unit", unit), dashboard.DynamicConfigValue("displayName", heading)]
        if unit == SHARE:
            wanted += [
                dashboard.DynamicConfigValue("thresholds", _thresholds(steps).build()),
                dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ]
        panel.override_by_name(f"Value #{ascii_uppercase[number]}", wanted)
    panel.with_transformation(dashboard.DataTransformerConfig("merge", options={}))
    hidden = dashboard.DataTransformerConfig(
        "organize", options={"excludeByName": {"Time": True}, "indexByName": {key: 0}, "renameByName": {}}
    )
    panel.with_transformation(hidden)
    queries = [query for _, query, _ in columns]
    return _finished(panel, title, says, queries, unit="", width=24, height=height, shape="table")


def _finished(
    panel: Builder,
    title: str,
    says: Says,
    queries: Sequence[Query],
    *,
    unit: str,
    width: int,
    height: int,
    shape: Literal["range", "instant", "table"] = "range",
) -> dashboard.Panel:
    """What every panel has: title, description, data source, size, queries."""
    panel.title(title).description(says.text(queries)).datasource(SOURCE).span(width).height(height)
    if unit:
        panel.unit(unit)
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(SOURCE)
        target = target.range() if shape == "range" else target.instant()
        panel.with_target(
            target.format(PromQueryFormat.TABLE if shape == "table" else PromQueryFormat.TIME_SERIES).exemplar(
                query.exemplar
            )
        )
    return panel.build()


SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")


def _thresholds(steps: Sequence[tuple[float, str]]) -> builders.ThresholdsConfig:
    """Below the first step is the other end: green if the steps turn bad upwards, red if they turn good."""
    base = BAD if steps and steps[-1][1] == GOOD else GOOD
    found = [dashboard.Threshold(value=None, color=base if steps else "text")]
    found += [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(found)


def _legend(width: int) -> build.VizLegendOptions:
    """Beside a wide chart a table, the largest first; below a narrow one the names."""
    legend = build.VizLegendOptions().show_legend(True)  # noqa: FBT003  # the builder's way
    if width < WIDE:
        return legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    legend.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.RIGHT)
    return legend.calcs(["max"]).sort_by("Max").sort_desc(True)  # noqa: FBT003  # the builder's way


def _no_traffic() -> dashboard.SpecialValueMap:
    match = dashboard.SpecialValueMatch.NULL_AND_NAN
    return dashboard.SpecialValueMap(
        dashboard.DashboardSpecialValueMapOptions(match, dashboard.ValueMappingResult(text="no traffic", color="text"))
    )
