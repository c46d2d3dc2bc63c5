"""Two services on one Redis: their limits are one, whatever becomes of Redis or of one of them."""

import contextlib
import signal
import time

import pytest

from tests.contract.redis_server import RedisServer
from tests.http.raw import chat, connect, read_until, until
from tests.process import Service

LIMIT = 10
SHORT = {"session_id": "s", "message": "What is case C-1042 about?", "model": "sim:tokens=3,interval_ms=0,ttft_ms=0"}


def config(more=""):
    return f"""
[limits]
backend = "redis"
redis_url_env = "FOREBAY_TEST_REDIS"
requests = {LIMIT}
tenant_requests = {LIMIT}
{more}
[[providers]]
name = "simulated"
kind = "simulated"
models = ["sim"]
max_concurrency = 100
"""


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    until(server.path.exists)
    yield server
    server.kill()


@contextlib.contextmanager
def services(folder, redis, *, count=2, more="", arguments=()):
    with contextlib.ExitStack() as stack:
        environ = {"FOREBAY_TEST_REDIS": redis.url}
        yield [
            stack.enter_context(Service(folder / f"service{number}", config(more), *arguments, environ=environ))
            for number in range(count)
        ]


@contextlib.contextmanager
def crowd(service, size):
    """So many clients whose answers stand still once they have begun; most get no place."""
    clients = [connect(service, chat("sim:stall_at=1", session=f"s{number}")) for number in range(size)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def in_use(*running):
    return sum(service.metric("forebay_concurrency_in_use", resource="requests") for service in running)


def limits(*running):
    return sum(service.metric("forebay_concurrency_limit", resource="requests") for service in running)


def waiting(*running):
    return sum(service.metric("forebay_admission_queue_depth", resource="requests") for service in running)


def total(metric, running):
    return sum(service.metric(f"forebay_{metric}") for service in running)


def readiness(service):
    with service.client() as client:
        answer = client.get("/readyz")
    return answer.status_code, answer.json()["status"], answer.json()["dependencies"]["limits"]


def finish(service):
    """Ask for one short turn; returns the status and the seconds that it took."""
    began = time.monotonic()
    with service.client() as client:
        answer = client.post("/chat/stream", json=SHORT)
    return answer.status_code, time.monotonic() - began


def test_the_places_of_two_services_are_never_more_than_the_limit_and_soon_all_in_use(tmp_path, redis):
    with services(tmp_path, redis) as (one, two), crowd(one, 30), crowd(two, 30):
        most = 0
        deadline = time.monotonic() + 3.5
        while time.monotonic() < deadline:
            most = max(most, in_use(one, two))
            assert limits(one, two) <= LIMIT
        assert LIMIT - 2 <= most <= LIMIT, "each keeps a place or two to meet a newcomer"
        assert in_use(one) > 0
        assert in_use(two) > 0


def test_three_services_keep_to_one_limit_and_one_rate(tmp_path, redis):
    size, rate = 20, 70
    with services(tmp_path, redis, count=3, more=f'tenant_rate = "{rate}/minute"') as running:
        with contextlib.ExitStack() as crowds:
            for service in running:
                crowds.enter_context(crowd(service, size))
            until(lambda: limits(*running) <= LIMIT and in_use(*running) >= LIMIT - 3 and all(map(in_use, running)))
            until(lambda: total("requests_started_total", running) == 3 * size)
            until(lambda: total("requests_in_flight", running) == in_use(*running) + waiting(*running))  # all counted
            assert limits(*running) <= LIMIT
        statuses = [finish(service)[0] for _ in range(6) for service in running]
        left = rate - 3 * size
        assert statuses[left:] == [429] * (18 - left)
        assert 429 not in statuses[:left], "what nobody has used is not lost between them"


def test_workers_of_one_service_share_by_redis_too(tmp_path, redis):
    with services(tmp_path, redis, count=1, arguments=("--workers", "2")) as (service,), crowd(service, 60):
        until(lambda: in_use(service) >= LIMIT - 2)
        assert limits(service) <= LIMIT


def test_a_rate_counts_the_turns_of_both_services(tmp_path, redis):
    with services(tmp_path, redis, more='tenant_rate = "10/minute"') as (one, two):
        statuses = [finish(service)[0] for _ in range(8) for service in (one, two)]
        assert statuses.count(200) == 10
        assert statuses[10:] == [429] * 6


def test_a_day_s_tokens_of_one_service_are_used_up_in_the_other(tmp_path, redis):
    with services(tmp_path, redis, more="tenant_tokens_per_day = 20") as (one, two):
        assert finish(one)[0] == 200
        until(lambda: finish(two)[0] == 429, 5.0)
        assert two.metric("forebay_rejections_total", reason="quota") >= 1


def test_the_places_of_a_service_that_crashed_come_back(tmp_path, redis):
    with services(tmp_path, redis, more="queue_wait_ms = 20_000") as (one, two):
        with crowd(one, 30), crowd(two, 30):
            until(lambda: in_use(one, two) >= LIMIT - 2)
            held = in_use(two)
            one.kill()
            began = time.monotonic()
        with crowd(two, 30):
            until(lambda: in_use(two) >= LIMIT - 1, 10.0)
        assert held < LIMIT - 1
        assert time.monotonic() - began < 8.0  # three seconds of lease, and a busy machine


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_without_redis_services_go_on_with_their_shares_say_so_and_recover(tmp_path, redis, how):
    with services(tmp_path, redis, more='tenant_rate = "1000/minute"') as (one, two):
        until(lambda: limits(one, two) == 2)  # both know of both
        redis.kill() if how == "killed" else redis.stop()
        until(lambda: readiness(one) == readiness(two) == (200, "degraded", "failed"), 10.0)
        for service in (one, two):
            status, seconds = finish(service)
            assert status == 200
            assert seconds < 2.0  # nobody waits for what is known to be gone; the rest is for a busy machine
            until(lambda at=service: at.metric("forebay_degradations_total") == len(at.lines("degraded")) > 0)
            assert {line["dependency"] for line in service.lines("degraded")} == {"limits"}
            assert service.metric("forebay_concurrency_limit", resource="requests") == LIMIT / 2
        redis.start() if how == "killed" else redis.go_on()
        until(lambda: readiness(one) == readiness(two) == (200, "ready", "ready"), 10.0)
        for service in (one, two):
            until(lambda at=service: len(at.lines("recovered")) == len(at.lines("degraded")))
        assert [finish(service)[0] for service in (one, two)] == [200, 200]


def test_a_service_that_starts_without_redis_starts_all_the_same_and_says_so(tmp_path, redis):
    redis.kill()
    with services(tmp_path, redis, count=1) as (service,):
        assert readiness(service) == (200, "degraded", "failed")
        assert finish(service)[0] == 200
        redis.start()
        until(lambda: readiness(service) == (200, "ready", "ready"), 10.0)


def test_a_redis_that_is_killed_under_load_is_no_token_s_delay(tmp_path, redis):
    with services(tmp_path, redis, count=1) as (service,):
        with connect(service, chat("sim:tokens=100,interval_ms=20,ttft_ms=0")) as client:
            read_until(client, b"token_delta")
            redis.process.send_signal(signal.SIGSTOP)
            read_until(client, b"message_completed")
        assert until(lambda: service.lines("request"))[-1]["outcome"] == "completed"
        gap = service.metric("forebay_stream_max_gap_seconds_sum") / service.metric(
            "forebay_stream_max_gap_seconds_count"
        )
        assert gap < 0.25
