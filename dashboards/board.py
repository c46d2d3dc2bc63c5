"""A board: titled rows of panels, laid out on Grafana's grid of 24 columns, with what all boards share.

That is: variables, links to the other boards that keep time and variables, and firing alerts as annotations. Jaeger is
named nowhere: exemplars lead where the data source says, so a board works with any Prometheus and without traces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from dashboards.panels import SOURCE
from dashboards.promql import VARIABLES, every
from telemetry import catalogue as rows
from telemetry.catalogue import Metric

TAG = "forebay"
_COLUMNS = 24
_VALUES_OF: dict[str, Metric] = {
    "job": rows.BUILD_INFO,
    "instance": rows.BUILD_INFO,
    "route": rows.REQUESTS_STARTED_TOTAL,
    "model": rows.STREAM_DURATION_SECONDS,
    "tenant": rows.TENANT_REQUESTS_TOTAL,
}


@dataclass(frozen=True)
class Row:
    """A titled row of panels, wrapped at 24 columns."""

    title: str
    panels: Sequence[dashboard.Panel]


@dataclass(frozen=True)
class Board:
    """A board and its file, `generated/<uid>.json`."""

    uid: str
    title: str
    says: str
    rows: Sequence[Row]

    @property
    def panels(self) -> list[dashboard.Panel]:
        """Every panel, without the rows' titles."""
        return [panel for row in self.rows for panel in row.panels]

    def to_json(self) -> str:
        """Return what Grafana imports: the same text for the same board."""
        builder = build.Dashboard(self.title).uid(self.uid).description(self.says).tags([TAG]).timezone("browser")
        builder.time("now-1h", "now").refresh("10s").tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        builder.with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        used = {name for name in VARIABLES for panel in self.panels if f"${name}" in _expressions(panel)}
        for name in VARIABLES:
            builder.with_variable(_variable(name, hidden=name not in used))
        builder.link(_links()).annotation(_alerts())
        model = builder.build()
        model.panels = _laid_out(self.rows)
        told = _without_placement(json.loads(JSONEncoder().encode(model)))
        told["id"] = None
        return json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _expressions(panel: dashboard.Panel) -> str:
    return " ".join(str(getattr(target, "expr", "")) for target in panel.targets or ())


def _laid_out(rows_of_board: Sequence[Row]) -> list[dashboard.Panel | dashboard.RowPanel]:
    """Give every row and panel its place and its number."""
    placed: list[dashboard.Panel | dashboard.RowPanel] = []
    y = 0
    for row in rows_of_board:
        place = dashboard.GridPos(x=0, y=y, w=_COLUMNS, h=1)
        placed.append(dashboard.RowPanel(title=row.title, id_val=len(placed) + 1, grid_pos=place, panels=[]))
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            size = panel.grid_pos or dashboard.GridPos()
            if x + size.w > _COLUMNS:
                x, y, height = 0, y + height, 0
            panel.grid_pos = dashboard.GridPos(x=x, y=y, w=size.w, h=size.h)
            panel.id_val = len(placed) + 1
            placed.append(panel)
            x, height = x + size.w, max(height, size.h)
        y += height
    return placed


def _variable(name: str, *, hidden: bool) -> build.QueryVariable:
    """A variable of every board. Where it picks nothing it is hidden, not absent, so that links carry its value on."""
    row = _VALUES_OF[name]
    earlier = [f'{other}=~"${other}"' for other in ("job", "instance") if name not in {other, "job"}]
    selector = every(row, *earlier, part="count" if row.kind == "histogram" else "")
    variable = build.QueryVariable(name).label(name.capitalize()).datasource(SOURCE)
    variable.query({"query": f"label_values({selector}, {name})", "refId": name})
    variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    variable.multi(True).include_all(True).all_value(".*")  # noqa: FBT003  # the builder's way
    variable.current(dashboard.VariableOption(text="All", value="$__all"))
    return variable.hide(dashboard.VariableHide.HIDE_VARIABLE if hidden else dashboard.VariableHide.DONT_HIDE)


def _links() -> build.DashboardLink:
    link = build.DashboardLink("Forebay").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.icon("external link").keep_time(True).include_vars(True)  # noqa: FBT003  # the builder's way


def _alerts() -> build.AnnotationQuery:
    """Firing alerts as marks on every chart."""
    expression = 'ALERTS{alertstate="firing", alertname=~"Forebay.+", job=~"$job|"}'
    marks = build.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red")  # noqa: FBT003
    marks.expr(expression).step("30s").title_format("{{alertname}}").text_format("{{severity}} {{slo}}{{phase}}")
    return marks


def _without_placement(told: dict[str, Any]) -> dict[str, Any]:
    """Take away where links and annotations go: this SDK would put them into a menu, where nobody finds them."""
    for item in (*told["links"], *told["annotations"]["list"]):
        item.pop("placement", None)
    return told
