"""The circuit breaker, with time as a number."""

import random

import pytest

from service.runtime.circuit import FIRST_REST, LONGEST_REST, WINDOW, Circuit, Circuits, State


def attempts(circuit, now, *, ok=0, failed=0):
    """Make so many attempts at `now`, the good ones first; each ends before the next begins."""
    for outcome in [False] * ok + [True] * failed:
        circuit.attempt(now).end(now, failed=outcome)


def opened(now=0.0, **more):
    circuit = Circuit(**more)
    attempts(circuit, now, failed=20)
    assert circuit.state is State.OPEN
    return circuit


def probe(circuit, now, *, failed=False):
    circuit.attempt(now).end(now, failed=failed)


def test_nineteen_failures_prove_nothing_and_the_twentieth_opens():
    circuit = Circuit()
    attempts(circuit, 0.0, failed=19)
    assert circuit.state is State.CLOSED
    attempts(circuit, 0.0, failed=1)
    assert circuit.state is State.OPEN


def test_half_of_the_attempts_may_fail_and_one_more_may_not():
    circuit = Circuit()
    attempts(circuit, 0.0, ok=15, failed=15)
    assert circuit.state is State.CLOSED
    attempts(circuit, 0.0, failed=1)
    assert circuit.state is State.OPEN


def test_failures_of_more_than_thirty_seconds_ago_are_forgotten():
    circuit = Circuit()
    attempts(circuit, 0.0, failed=19)
    attempts(circuit, 30.0, failed=19)
    assert circuit.state is State.CLOSED


def test_failures_within_thirty_seconds_add_up():
    circuit = Circuit()
    for second in range(20):
        attempts(circuit, 1.3 * second, failed=1)
    assert circuit.state is State.OPEN


def test_what_says_nothing_is_not_counted():
    circuit = Circuit()
    for _ in range(100):
        circuit.attempt(0.0).end(0.0, failed=None)
    attempts(circuit, 0.0, failed=19)
    assert circuit.state is State.CLOSED
    attempts(circuit, 0.0, failed=1)
    assert circuit.state is State.OPEN


def test_an_open_circuit_lets_nobody_through_and_says_for_how_long():
    circuit = opened(now=100.0)
    assert circuit.attempt(100.0 + FIRST_REST - 0.01) is None
    assert circuit.rest(102.0) == FIRST_REST - 2.0


def test_after_its_rest_it_lets_three_probes_through_and_no_more():
    circuit = opened()
    assert circuit.rest(FIRST_REST) == 0
    probes = [circuit.attempt(FIRST_REST) for _ in range(5)]
    assert circuit.state is State.HALF_OPEN
    assert [one is not None for one in probes] == [True, True, True, False, False]
    assert circuit.rest(FIRST_REST) > 0


def test_three_probes_that_are_answered_close_it_while_their_streams_go_on():
    circuit = opened()
    for one in [circuit.attempt(5.0) for _ in range(3)]:
        one.answered(5.2)
    assert circuit.state is State.CLOSED


def test_a_probe_that_fails_opens_it_for_twice_as_long_each_time_up_to_a_minute():
    circuit, now, rests = opened(), 0.0, []
    for _ in range(6):
        rests.append(circuit.rest(now))
        now += circuit.rest(now)
        probe(circuit, now, failed=True)
    assert rests == [5, 10, 20, 40, 60, LONGEST_REST]


def test_the_rest_is_short_again_after_it_has_closed():
    circuit = opened()
    probe(circuit, 5.0, failed=True)
    for _ in range(3):
        probe(circuit, 15.0)
    attempts(circuit, 16.0, failed=20)
    assert circuit.rest(16.0) == FIRST_REST


def test_a_probe_that_was_cancelled_leaves_its_place_to_another():
    circuit = opened()
    for one in [circuit.attempt(5.0) for _ in range(3)]:
        one.end(5.1, failed=None)
    for _ in range(3):
        probe(circuit, 5.2)
    assert circuit.state is State.CLOSED


def test_what_was_under_way_when_it_opened_counts_no_more():
    circuit = Circuit()
    stragglers = [circuit.attempt(0.0) for _ in range(40)]
    attempts(circuit, 0.0, failed=20)
    for straggler in stragglers[:20]:
        straggler.end(1.0, failed=True)
    assert circuit.rest(1.0) == FIRST_REST - 1.0
    for _ in range(3):
        probe(circuit, 5.0)
    for straggler in stragglers[20:]:
        straggler.end(5.5, failed=True)
    assert circuit.state is State.CLOSED


def test_an_attempt_ends_once():
    circuit = Circuit()
    for _ in range(19):
        one = circuit.attempt(0.0)
        one.end(0.0, failed=True)
        one.end(0.0, failed=True)
    assert circuit.state is State.CLOSED


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_it_comes_back_once_all_goes_well(seed):
    chance, circuit, now, running = random.Random(seed), Circuit(), 0.0, []
    for _ in range(2000):
        now += chance.expovariate(5)
        if chance.random() < 0.6 and (one := circuit.attempt(now)):
            running.append(one)
        if running and chance.random() < 0.7:
            one = running.pop(chance.randrange(len(running)))
            if chance.random() < 0.3:
                one.answered(now)
            one.end(now, failed=chance.choice([True, True, False, None]))
    for one in running:
        one.end(now, failed=None)
    for _ in range(10):
        now += LONGEST_REST
        if one := circuit.attempt(now):
            one.end(now, failed=False)
    assert circuit.state is State.CLOSED
    assert circuit.attempt(now) is not None


# --- of a provider ------------------------------------------------------------------------------------------------


def test_one_that_nobody_asks_again_is_half_open_after_its_rest_and_forgotten_after_the_window():
    told = []
    circuits = Circuits(told.append)
    attempts(circuits.of("m"), 0.0, failed=20)
    for now, state in (
        (FIRST_REST - 0.1, State.OPEN),
        (FIRST_REST, State.HALF_OPEN),
        (FIRST_REST + WINDOW - 0.1, State.HALF_OPEN),
        (FIRST_REST + WINDOW, State.CLOSED),
    ):
        circuits.age(now)
        assert told[-1] is state
    attempts(circuits.of("m"), FIRST_REST + WINDOW, failed=19)
    assert told[-1] is State.CLOSED, "what it was opened for counts no more"


def test_time_alone_does_not_close_one_whose_probe_is_under_way():
    circuit = opened()
    probing = circuit.attempt(FIRST_REST)
    circuit.age(FIRST_REST + 2 * WINDOW)
    assert circuit.state is State.HALF_OPEN
    probing.end(FIRST_REST + 2 * WINDOW, failed=True)
    assert circuit.state is State.OPEN


def test_a_provider_is_as_bad_as_the_worst_of_its_models():
    told = []
    circuits = Circuits(told.append)
    attempts(circuits.of("small"), 0.0, ok=20)
    attempts(circuits.of("large"), 0.0, failed=20)
    assert circuits.of("small").state is State.CLOSED
    for _ in range(3):
        probe(circuits.of("large"), 5.0)
    assert told == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_of_models_without_end_those_not_asked_for_longest_are_forgotten():
    told = []
    circuits = Circuits(told.append, most=3)
    attempts(circuits.of("a"), 0.0, failed=20)
    kept = circuits.of("b")
    circuits.of("c")
    circuits.of("b")
    circuits.of("d")
    assert circuits.of("b") is kept
    assert told == [State.OPEN, State.CLOSED]
    assert circuits.of("a").state is State.CLOSED
