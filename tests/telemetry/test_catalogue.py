import re

import pytest

from service import errors
from telemetry import catalogue
from telemetry.catalogue import ATTRIBUTES, METRICS, Attr

# Section 4 of the contract: dashboards, alerts and acceptance checks rely on these.
CONTRACT = """
requests_started_total route
requests_total route outcome
requests_in_flight route
http_responses_total route method code
time_to_first_token_seconds route model
first_token_missed_total route reason
provider_first_token_seconds provider model
stream_duration_seconds model outcome
stream_max_gap_seconds model
generated_tokens_total model outcome
prompt_tokens_total model
wasted_tokens_total model
stream_queue_depth
stream_queue_high_water
producer_blocked_seconds_total
reader_blocked_seconds_total
concurrency_in_use resource
concurrency_limit resource
concurrency_unowned resource
tenant_concurrency_in_use tenant
tenant_concurrency_limit tenant
tenant_requests_total tenant outcome
tenant_rejections_total tenant reason
tenant_tokens_total tenant direction
admission_queue_depth resource
admission_wait_seconds resource
rejections_total route reason
phase_duration_seconds phase
phase_outcomes_total phase outcome
phase_budget_seconds phase
model_budget_seconds model limit
timeouts_total phase limit
client_disconnects_total route phase
cancellations_total route cause phase
cancel_latency_seconds
stream_errors_total code
provider_requests_total provider outcome
provider_retries_total provider reason
provider_retries_denied_total provider reason
provider_circuit_state provider
degradations_total dependency
tool_calls_total tool outcome
tool_duration_seconds tool
tool_replays_total tool
tool_approvals_pending
jobs_queue_depth kind
jobs_running kind
job_wait_seconds kind
job_duration_seconds kind
jobs_total kind outcome
jobs_recovered_total kind
event_loop_lag_seconds
telemetry_spans_dropped_total
build_info version
"""
PROMISED = [line.split() for line in CONTRACT.strip().splitlines()]


@pytest.mark.parametrize("row", PROMISED, ids=lambda row: row[0])
def test_a_promised_metric_has_its_row_and_its_labels(row):
    name, *labels = row
    assert getattr(catalogue, name.upper()).label_names == tuple(labels)


def test_each_constant_is_the_name_of_its_metric_in_capitals():
    assert all(getattr(catalogue, row.short_name.upper()) is row for row in METRICS)


def test_counters_end_in_total_and_nothing_else_does():
    assert {row.short_name for row in METRICS if row.kind == "counter"} == {
        row.short_name for row in METRICS if row.short_name.endswith("_total")
    }


def test_only_histograms_have_bounds_and_they_rise():
    for row in METRICS:
        assert bool(row.bounds) == (row.kind == "histogram")
        assert list(row.bounds) == sorted(set(row.bounds))


def test_no_histogram_carries_the_tenant():
    assert not [row.name for row in METRICS if row.kind == "histogram" and "tenant" in row.label_names]


def test_the_closed_sets_are_those_of_the_errors():
    assert set(catalogue.ERROR_CODES) == set(errors.Code)
    assert set(catalogue.REJECTION_REASONS) == set(errors.Reason)
    assert set(catalogue.CANCEL_CAUSES) == set(errors.Cause)


def test_every_attribute_name_has_a_meaning_and_one_constant():
    names = [value for key, value in vars(Attr).items() if key.isupper()]
    assert sorted(names) == sorted(ATTRIBUTES)
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name) for name in names)


def test_no_row_is_there_twice():
    for rows in (METRICS, catalogue.SPANS, catalogue.LOG_EVENTS):
        names = [row.name for row in rows]
        assert len(names) == len(set(names))


def test_a_label_set_that_names_a_value_twice_is_refused():
    with pytest.raises(ValueError, match="models names a value twice"):
        catalogue.LabelSets(models=("sim", "sim"))
