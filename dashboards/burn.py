"""Recording rules and burn-rate alerts, made from the table of SLOs.

Multi-window, multi-burn-rate over 30 days, as in Google's SRE workbook ('Alerting on SLOs'): a long window says that it
matters, a short one that it still goes on. Only the five-minute rates read raw series; longer windows are averages of
those, weighted by traffic, and cost next to nothing.
"""

from __future__ import annotations

from dashboards.promql import every
from dashboards.rules import Alert, Group, Recording
from dashboards.slos import SLOS, Rates, Slo
from telemetry import catalogue as rows

# burn rate, long window, short window. 14.4 spends 2 % of the month's budget in an hour, 1 spends it in a month.
FAST = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
SLOW = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))
# Eligible events a second, over the long window, below which nobody is told: one lost turn at night is no outage.
FLOOR = 0.02

BAD, ELIGIBLE, RATIO = "forebay:slo_bad:rate5m", "forebay:slo_eligible:rate5m", "forebay:slo_bad:ratio_rate"
OBJECTIVE = "forebay:slo_objective:ratio"
_WINDOWS = ("30m", "1h", "2h", "6h", "1d", "3d")


def slo_group() -> Group:
    """Return the recorded rates, ratios and objectives, and the alerts on them."""
    rules: list[Recording | Alert] = []
    for slo in SLOS:
        rate = Rates(every, "5m", "job")
        rules.append(Recording(BAD, slo.bad(rate), {"slo": slo.name}))
        rules.append(Recording(ELIGIBLE, f"{slo.good(rate)}\n+ {slo.bad(rate)}", {"slo": slo.name}))
        rules.append(
            Recording(OBJECTIVE, f"{slo.objective} * group by (job) ({every(rows.BUILD_INFO)})", {"slo": slo.name})
        )
    rules.append(Recording(f"{RATIO}5m", f"{BAD} / {ELIGIBLE}", {}))
    for window in _WINDOWS:
        ratio = f"avg_over_time({BAD}[{window}]) / avg_over_time({ELIGIBLE}[{window}])"
        rules.append(Recording(f"{RATIO}{window}", ratio, {}))
    for slo in SLOS:
        rules += [_fast(slo)] if slo.pages else []
        rules.append(_slow(slo))
    return Group("forebay-slo", rules)


def _fast(slo: Slo) -> Alert:
    return Alert(
        name=f"Forebay{slo.title}BudgetBurnsFast",
        family="slo",
        severity="critical",
        expr=_burning(slo, FAST),
        hold="2m",
        summary=f"The error budget of '{slo.name}' will be gone within days",
        description=_felt(slo) + " The month's budget would be gone within five days, or two.",
        board=slo.board,
    )


def _slow(slo: Slo) -> Alert:
    return Alert(
        name=f"Forebay{slo.title}BudgetBurnsSlowly",
        family="slo",
        severity="warning",
        expr=_burning(slo, SLOW),
        hold="15m",
        summary=f"The error budget of '{slo.name}' is being spent faster than it grows",
        description=_felt(slo) + " The month's budget will not last for the month.",
        board=slo.board,
    )


def _felt(slo: Slo) -> str:
    return f"Job {{{{ $labels.job }}}}: {slo.felt.format(share='{{ $value | humanizePercentage }}')}"


def _burning(slo: Slo, windows: tuple[tuple[float, str, str], ...]) -> str:
    """Return an expression that holds while one pair of windows burns; its value is the long window's ratio."""
    own = f'{{slo="{slo.name}"}}'
    pairs = (
        f"(\n  {RATIO}{long}{own} > {factor:g} * {slo.budget:g}\n"
        f"  and {RATIO}{short}{own} > {factor:g} * {slo.budget:g}\n"
        f"  and avg_over_time({ELIGIBLE}{own}[{long}]) > {FLOOR}\n)"
        for factor, long, short in windows
    )
    return "\nor\n".join(pairs)
