import pytest

from service.errors import Reason
from telemetry.catalogue import (
    BUILD_INFO,
    HTTP_RESPONSES_TOTAL,
    METRICS,
    REJECTIONS_TOTAL,
    REQUESTS_TOTAL,
    TENANT_REQUESTS_TOTAL,
    TIME_TO_FIRST_TOKEN_SECONDS,
    LabelSets,
)
from telemetry.instruments import Instruments, UnknownLabelError
from telemetry.testing import EXAMPLE_LABELS, recording_observer


def series(registry, name):
    return {
        tuple(sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_every_series_of_every_metric_is_there_at_0_from_the_start():
    registry = Instruments(EXAMPLE_LABELS).registry
    samples = [sample for family in registry.collect() for sample in family.samples]
    assert {sample.value for sample in samples if sample.name != BUILD_INFO.name} == {0.0}
    families = {family.name for family in registry.collect() if family.samples}
    assert families == {row.name.removesuffix("_total") for row in METRICS}
    assert len(series(registry, REQUESTS_TOTAL.name)) == 3 * 6


def test_no_created_series_are_exported():
    registry = Instruments(EXAMPLE_LABELS).registry
    assert not [s.name for family in registry.collect() for s in family.samples if s.name.endswith("_created")]


def test_a_value_outside_its_set_raises_in_tests():
    observer, _ = recording_observer()
    with pytest.raises(UnknownLabelError, match="requests_total"):
        observer.inc(REQUESTS_TOTAL, "/chat/stream", "vanished")


def test_too_few_labels_raise_in_tests():
    observer, _ = recording_observer()
    with pytest.raises(UnknownLabelError):
        observer.inc(REQUESTS_TOTAL, "/chat/stream")
    with pytest.raises(UnknownLabelError):
        observer.inc(TENANT_REQUESTS_TOTAL, "demo")


def test_a_refused_point_is_reported_and_leaves_no_series():
    refused = []
    instruments = Instruments(EXAMPLE_LABELS, refuse=lambda row, values: refused.append((row, values)))
    before = series(instruments.registry, REQUESTS_TOTAL.name)
    instruments.counters[REQUESTS_TOTAL]["/chat/stream", "vanished"].inc(1)
    assert refused == [(REQUESTS_TOTAL, ("/chat/stream", "vanished"))]
    assert series(instruments.registry, REQUESTS_TOTAL.name) == before


def test_a_tenant_that_nobody_named_is_counted_as_other():
    observer, recorder = recording_observer()
    observer.inc(TENANT_REQUESTS_TOTAL, "stranger", "completed")
    observer.inc(TENANT_REQUESTS_TOTAL, "demo", "completed")
    assert recorder.value(TENANT_REQUESTS_TOTAL, "other", "completed") == 1
    assert recorder.value(TENANT_REQUESTS_TOTAL, "demo", "completed") == 1


def test_tenants_beyond_the_cap_are_counted_as_other():
    sets = LabelSets(tenants=tuple(f"t{n}" for n in range(1_000)))
    observer, recorder = recording_observer(sets)
    observer.inc(TENANT_REQUESTS_TOTAL, "t99", "completed")
    observer.inc(TENANT_REQUESTS_TOTAL, "t100", "completed")
    assert recorder.value(TENANT_REQUESTS_TOTAL, "t99") == 1
    assert recorder.value(TENANT_REQUESTS_TOTAL, "other") == 1


def test_an_unknown_path_is_counted_as_other_with_its_status():
    observer, recorder = recording_observer()
    observer.inc(HTTP_RESPONSES_TOTAL, "/wp-admin", "GET", "404")
    observer.inc(HTTP_RESPONSES_TOTAL, "/healthz", "GET", "418")
    assert recorder.value(HTTP_RESPONSES_TOTAL, "other", "other", "404") == 1
    assert recorder.value(HTTP_RESPONSES_TOTAL, "/healthz", "GET", "other") == 1


def test_members_of_the_service_s_enums_are_label_values():
    observer, recorder = recording_observer()
    observer.inc(REJECTIONS_TOTAL, "/jobs", Reason.QUOTA)
    assert recorder.value(REJECTIONS_TOTAL, "/jobs", "quota") == 1


def test_bounds_are_the_catalogue_s_with_budgets_and_thresholds_added():
    instruments = Instruments(EXAMPLE_LABELS, extra_bounds={TIME_TO_FIRST_TOKEN_SECONDS: (3.0, 1.0, 0.8)})
    samples = series(instruments.registry, TIME_TO_FIRST_TOKEN_SECONDS.name + "_bucket")
    bounds = {float(labels[2]) for labels in samples}
    assert bounds == {*TIME_TO_FIRST_TOKEN_SECONDS.bounds, 3.0, 0.8, float("inf")}


def test_a_row_of_another_kind_is_a_mistake_of_the_caller():
    observer, _ = recording_observer()
    with pytest.raises(KeyError):
        observer.inc(TIME_TO_FIRST_TOKEN_SECONDS, "/chat/stream", "sim")
