"""When a failed attempt may be made again."""

import random
from collections import Counter

import pytest

from service.runtime.retry import LONGEST_PAUSE, Retries


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (20, LONGEST_PAUSE)])
def test_a_pause_is_drawn_from_all_that_is_shorter_than_its_double_of_the_one_before(attempt, longest):
    retries = Retries(random.Random(1))
    drawn = [retries.pause(attempt) for _ in range(1000)]
    assert 0 <= min(drawn) < 0.1 * longest
    assert 0.9 * longest < max(drawn) <= longest


def granted(retries, now, asked=1000):
    return sum(retries.take(now) for _ in range(asked))


def test_a_quiet_process_may_retry_ten_times_a_second_and_as_often_at_once_as_ten_seconds_allow():
    retries = Retries(random.Random(1))
    assert granted(retries, 0.0) == 100
    assert granted(retries, 9.9) == 0
    assert granted(retries, 10.0) == 100


def test_a_busy_process_may_retry_a_fifth_of_its_requests_besides():
    retries = Retries(random.Random(1))
    for request in range(1000):
        retries.request(request / 1000)
    assert granted(retries, 1.0) == 100 + 200


def test_requests_of_more_than_ten_seconds_ago_give_no_leave_any_more():
    retries = Retries(random.Random(1))
    for _ in range(1000):
        retries.request(0.5)
    assert granted(retries, 10.5) == 100


@pytest.mark.parametrize("seed", range(10))
def test_no_retry_is_granted_beyond_what_the_last_ten_seconds_allow(seed):
    chance, budget, now = random.Random(seed), Retries(random.Random(seed)), 0.0
    requests, retries = Counter(), Counter()  # by the second: the budget counts whole ones
    for _ in range(5000):
        now += chance.expovariate(200)
        requests[int(now)] += 1
        budget.request(now)
        if chance.random() < 0.8 and budget.take(now):
            retries[int(now)] += 1
            recent = range(int(now) - 9, int(now) + 1)
            assert sum(retries[s] for s in recent) <= 100 + 0.2 * sum(requests[s] for s in recent)
    assert retries.total() > 200
