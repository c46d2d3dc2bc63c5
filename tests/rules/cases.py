"""For each alert, series under which it fires and series, as near as can be, under which it does not.

Values in promtool's notation, one a minute: `0+6x60` grows by 6 each minute, for 60 minutes.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

Series = dict[str, str]
HOUR = 60


class Case(NamedTuple):
    """`labels` are those of the one alert that fires, beside its own; `at` is when one looks, in minutes."""

    fires: Series
    quiet: Series
    labels: dict[str, str] = MappingProxyType({})
    at: int = HOUR


def _turns(good: str, bad: str, *, outcome: str = "errored") -> Series:
    return {
        'forebay_requests_total{job="j", outcome="completed"}': good,
        'forebay_requests_total{job="j", outcome="degraded"}': "0x60",
        'forebay_requests_total{job="j", outcome="errored"}': "0x60",
        'forebay_requests_total{job="j", outcome="timed_out"}': "0x60",
        f'forebay_requests_total{{job="j", outcome="{outcome}"}}': bad,
        'forebay_timeouts_total{job="j", limit="client"}': "0x60",
        'forebay_cancellations_total{job="j", cause="shutdown"}': "0x60",
        'forebay_rejections_total{job="j", reason="queue_full"}': "0x60",
    }


def _first_tokens(in_time: str, observed: str, missed: str) -> Series:
    return {
        'forebay_time_to_first_token_seconds_bucket{job="j", le="3.0"}': in_time,
        'forebay_time_to_first_token_seconds_count{job="j"}': observed,
        'forebay_first_token_missed_total{job="j", reason="error"}': missed,
        'forebay_first_token_missed_total{job="j", reason="client_left"}': "0+600x60",  # nobody's fault of ours
    }


def _gaps(short: str, all_of_them: str) -> Series:
    return {
        'forebay_stream_max_gap_seconds_bucket{job="j", le="1.0"}': short,
        'forebay_stream_max_gap_seconds_count{job="j"}': all_of_them,
    }


def _leave(phase: str, leaving: str, started: str, rejected: str = "0x60") -> Series:
    return {
        f'forebay_client_disconnects_total{{job="j", phase="{phase}"}}': leaving,
        'forebay_requests_started_total{job="j"}': started,
        'forebay_rejections_total{job="j", reason="rate"}': rejected,
    }


def _of_started(series: str, bad: str, started: str = "0+60x60") -> Series:
    return {series: bad, 'forebay_requests_started_total{job="j"}': started}


def _places(in_use: int, waiting: int) -> Series:
    return {
        'forebay_concurrency_in_use{job="j", resource="retrieval"}': f"{in_use}x60",
        'forebay_concurrency_limit{job="j", resource="retrieval"}': "16x60",
        'forebay_admission_queue_depth{job="j", resource="retrieval"}': f"{waiting}x60",
    }


def _buckets(metric: str, labels: str, below: str, everything: str, bound: str) -> Series:
    return {
        f'{metric}_bucket{{job="j"{labels}, le="{bound}"}}': below,
        f'{metric}_bucket{{job="j"{labels}, le="5.0"}}': everything,
        f'{metric}_bucket{{job="j"{labels}, le="+Inf"}}': everything,
        f'{metric}_count{{job="j"{labels}}}': everything,
    }


_STALLED = 'forebay_cancellations_total{job="j", cause="stalled_reader"}'
_LEFT = 'forebay_cancellations_total{job="j", cause="client_disconnect"}'
_UNOWNED = 'forebay_concurrency_unowned{job="j", resource="retrieval"}'
_BUILD = 'forebay_build_info{job="j", instance="a"}'
_OTHER_BUILD = 'forebay_build_info{job="j", instance="b"}'
_DEPTH = 'forebay_jobs_queue_depth{job="j", kind="report"}'
_BEGUN = 'forebay_job_wait_seconds_count{job="j", kind="report"}'
_BREAKER = 'forebay_provider_circuit_state{job="j", provider="upstream"}'
_MISSED = 'forebay_degradations_total{job="j", dependency="rerank"}'
_GONE = 'forebay_dependency_gone{job="j", dependency="limits"}'
_OPEN_MIND = 'forebay_rejections_total{job="j", reason="queue_full"}'

CASES: dict[str, Case] = {
    "ForebayTurnsBudgetBurnsFast": Case(
        # 10 % bad, where 14.4 times the budget of 0.5 % is 7.2 %; then the same trouble, ended 40 minutes ago.
        fires=_turns("0+54x60", "0+6x60"),
        quiet=_turns("0+60x60", "0+30x20 600x40"),
        labels={"slo": "turns"},
    ),
    "ForebayTurnsBudgetBurnsSlowly": Case(
        fires=_turns("0+98x60", "0+2x60"),
        quiet=_turns("0+600x60", "0+2x60"),  # 0.33 %: less than the budget
        labels={"slo": "turns"},
    ),
    "ForebayFirstTokenBudgetBurnsFast": Case(
        # Few are slow, but many never come: the histogram alone would look well.
        fires=_first_tokens("0+50x60", "0+50x60", "0+10x60"),
        quiet=_first_tokens("0+59x60", "0+60x60", "0+1x60"),
        labels={"slo": "first_token"},
    ),
    "ForebayFirstTokenBudgetBurnsSlowly": Case(
        fires=_first_tokens("0+95x60", "0+100x60", "0x60"),
        quiet=_first_tokens("0+996x60", "0+1000x60", "0x60"),
        labels={"slo": "first_token"},
    ),
    "ForebayTokenGapBudgetBurnsFast": Case(
        fires=_gaps("0+40x60", "0+60x60"),
        quiet=_gaps("0+58x60", "0+60x60"),
        labels={"slo": "token_gap"},
    ),
    "ForebayTokenGapBudgetBurnsSlowly": Case(
        fires=_gaps("0+58x60", "0+60x60"),
        quiet=_gaps("0+599x60", "0+600x60"),
        labels={"slo": "token_gap"},
    ),
    "ForebayDegradedBudgetBurnsSlowly": Case(
        fires=_turns("0+50x60", "0+10x60", outcome="degraded"),
        quiet=_turns("0+58x60", "0+2x60", outcome="degraded"),
        labels={"slo": "undegraded"},
    ),
    "ForebayDown": Case(
        fires={_BUILD: "1x50 _x10"},
        quiet={_BUILD: "1x50 _x10", _OTHER_BUILD: "1x60"},  # one of two
    ),
    "ForebayInstanceDown": Case(
        fires={_BUILD: "1x50 _x10", 'up{job="j", instance="a"}': "1x50 0x10"},
        quiet={_BUILD: "1x60", 'up{job="j", instance="a"}': "1x60", 'up{job="other", instance="c"}': "0x60"},
        labels={"instance": "a"},
    ),
    "ForebayClientsLeaveBeforeFirstToken": Case(
        fires=_leave("model.first_token", "0+20x60", "0+90x60", rejected="0+30x60"),
        quiet=_leave("model.tokens", "0+20x60", "0+60x60"),  # they have seen something: no page
    ),
    "ForebayClientsLeave": Case(
        fires=_leave("model.tokens", "0+20x60", "0+60x60"),
        quiet=_leave("model.tokens", "0+1x60", "0+1x60"),  # one a minute at night: below the floor
    ),
    "ForebayStalledReaders": Case(
        fires=_of_started(_STALLED, "0+3x60"),
        quiet=_of_started(_LEFT, "0+30x60"),
    ),
    "ForebayCancellationsSlow": Case(
        fires=_buckets("forebay_cancel_latency_seconds", "", "0+50x60", "0+60x60", "1.0"),
        quiet=_buckets("forebay_cancel_latency_seconds", "", "0+60x60", "0+60x60", "1.0"),
    ),
    "ForebayPhaseTimesOut": Case(
        fires={
            'forebay_timeouts_total{job="j", phase="model.gap", limit="phase"}': "0+6x60",
            'forebay_phase_outcomes_total{job="j", phase="model.stream", outcome="ok"}': "0+54x60",
            'forebay_phase_outcomes_total{job="j", phase="model.stream", outcome="timeout"}': "0+6x60",
        },
        quiet={
            'forebay_timeouts_total{job="j", phase="model.gap", limit="client"}': "0+6x60",  # what they asked for
            'forebay_phase_outcomes_total{job="j", phase="model.stream", outcome="ok"}': "0+60x60",
        },
        labels={"phase": "model.gap"},
    ),
    "ForebaySaturated": Case(fires=_places(16, 3), quiet=_places(16, 0), labels={"resource": "retrieval"}),
    "ForebayOverloaded": Case(
        fires=_of_started(_OPEN_MIND, "0+6x60"),
        quiet=_of_started('forebay_rejections_total{job="j", reason="quota"}', "0+30x60"),  # as agreed
    ),
    "ForebayProviderFails": Case(
        fires={
            'forebay_provider_requests_total{job="j", provider="upstream", outcome="429"}': "0+20x60",
            'forebay_provider_requests_total{job="j", provider="upstream", outcome="ok"}': "0+40x60",
        },
        quiet={
            'forebay_provider_requests_total{job="j", provider="upstream", outcome="cancelled"}': "0+40x60",
            'forebay_provider_requests_total{job="j", provider="upstream", outcome="ok"}': "0+40x60",
        },
        labels={"provider": "upstream"},
    ),
    "ForebayCircuitOpen": Case(
        fires={_BREAKER: "0x30 2x30"}, quiet={_BREAKER: "0x30 1x30"}, labels={"provider": "upstream"}
    ),
    "ForebayDependencyMissing": Case(
        fires=_of_started(_MISSED, "0+6x60"), quiet=_of_started(_MISSED, "0+1x60"), labels={"dependency": "rerank"}
    ),
    "ForebayDependencyGone": Case(
        fires={_GONE: "0x30 1x30"}, quiet={_GONE: "0x20 1x20 0x20"}, labels={"dependency": "limits"}
    ),
    "ForebayJobsWait": Case(
        fires={_DEPTH: "3x60", _BEGUN: "7x60"},
        quiet={_DEPTH: "3x60", _BEGUN: "0+1x60"},
        labels={"kind": "report"},
    ),
    "ForebayPlacesLeak": Case(
        fires={_UNOWNED: "0x50 1x10"}, quiet={_UNOWNED: "0x60"}, labels={"resource": "retrieval"}
    ),
    "ForebayBug": Case(
        fires={
            'forebay_stream_errors_total{job="j", code="internal"}': "0x55 1x5",
            'forebay_http_responses_total{job="j", code="500"}': "0x60",
        },
        quiet={
            'forebay_stream_errors_total{job="j", code="internal"}': "1x60",  # long ago
            'forebay_stream_errors_total{job="j", code="timeout"}': "0+9x60",
            'forebay_http_responses_total{job="j", code="500"}': "0x60",
        },
    ),
    "ForebayEventLoopBlocked": Case(
        fires=_buckets("forebay_event_loop_lag_seconds", ', instance="a"', "0+200x60", "0+240x60", "0.1"),
        quiet=_buckets("forebay_event_loop_lag_seconds", ', instance="a"', "0+239x60", "0+240x60", "0.1"),
        labels={"instance": "a"},
    ),
    "ForebayTelemetryDropped": Case(
        fires={
            'forebay_telemetry_spans_dropped_total{job="j"}': "0x50 40x10",
            'forebay_telemetry_log_lines_dropped_total{job="j"}': "0x60",
        },
        quiet={
            'forebay_telemetry_spans_dropped_total{job="j"}': "40x60",
            'forebay_telemetry_log_lines_dropped_total{job="j"}': "0x60",
        },
    ),
}
