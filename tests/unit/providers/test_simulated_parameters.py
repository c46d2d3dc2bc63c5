"""Reading the parameters of the simulated model."""

import pytest

from service.errors import InvalidRequest
from service.providers.simulated_parameters import SimParameters, parse


def test_without_parameters_it_is_50_tokens_a_second():
    assert parse("sim") == SimParameters()
    assert parse("sim").interval == pytest.approx(1 / 50)


def test_every_parameter_is_read_and_times_are_seconds():
    text = "sim:ttft_ms=50,tokens=100,interval_ms=10,seed=7,fail_at=1,stall_at=2,garbage_at=3,fail_times=4,status=503"
    assert parse(f"{text},tool=case_lookup,invalid_answers=5") == SimParameters(
        0.05, 0.01, 100, 7, 1, 2, 3, 4, 503, "case_lookup", 5
    )


def test_the_maxima_are_allowed():
    assert parse("sim:tokens=100000,ttft_ms=600000,interval_ms=600000").ttft == 600


def test_a_status_alone_fails_every_attempt():
    assert parse("sim:status=429").fail_at == 0
    assert parse("sim:status=429,fail_times=1").fail_at is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("speed=3", "'speed'"),
        ("", "''"),
        ("tokens", "tokens"),
        ("tokens=0", "tokens"),
        ("tokens=100001", "tokens"),
        ("tokens=-1", "tokens"),
        ("tokens=1.5", "tokens"),
        ("tokens=\u0661", "tokens"),
        ("tokens=" + "9" * 5000, "tokens"),
        ("ttft_ms=600001", "ttft_ms"),
        ("interval_ms=600001", "interval_ms"),
        ("status=200", "status"),
        ("status=600", "status"),
        ("tool=", "tool"),
        ("tool=<b>", "tool"),
        ("seed=1,seed=1", "seed"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(text: str, named: str):
    with pytest.raises(InvalidRequest, match=named) as refused:
        parse(f"sim:{text}")
    assert (refused.value.http_status, refused.value.field) == (422, "model")
