"""A model that fails before its first token is asked again, while that is safe, allowed and there is time."""

import asyncio
from dataclasses import dataclass, field

import pytest

from service.errors import ProviderFailure
from service.ports import Finish, Text, Usage
from service.providers.failures import from_status, malformed
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import in_house
from tests.flow.parts import InTurn

WELL = (Text("All is well."), Finish("stop"), Usage(7, 3))
OUTCOMES = ("ok", "timeout", "connect", "429", "4xx", "5xx", "malformed", "cancelled")
DENIED = ("budget", "deadline", "attempts", "circuit", "unsafe")


def talk(*scripts, row=None, **client):
    """One turn with a model that answers so; return the client, the model and the house."""
    model = InTurn(*(script if isinstance(script, tuple) else (script,) for script in scripts))

    async def scenario(house):
        house.model._model = model
        return await house.chat(**client), model, house

    return in_house(scenario, row=row)


def attempts(house, provider="simulated"):
    return {one: n for one in OUTCOMES if (n := house.recorder.value(rows.PROVIDER_REQUESTS_TOTAL, provider, one))}


def denied(house):
    return {
        one: n for one in DENIED if (n := house.recorder.value(rows.PROVIDER_RETRIES_DENIED_TOTAL, "simulated", one))
    }


def retried(house):
    return house.recorder.value(rows.PROVIDER_RETRIES_TOTAL, "simulated")


def test_a_retry_that_worked_is_no_degradation_and_no_error_of_the_phase():
    client, _, house = talk(from_status(500), WELL)
    assert client.text == "All is well."
    assert client.types[-1] == "message_completed"
    assert not client.warnings()
    assert house.requests("completed") == 1
    first, second = house.recorder.named("chat sim")
    assert (first["status"], first["attributes"][Attr.ERROR_TYPE], first["attributes"][Attr.ATTEMPT]) == (
        "ERROR",
        "5xx",
        1,
    )
    assert (second["status"], second["attributes"][Attr.ATTEMPT], second["kind"]) == ("UNSET", 2, "client")
    phase = house.recorder.span("model.stream")
    assert (phase["status"], phase["attributes"][Attr.OUTCOME], phase["attributes"][Attr.ATTEMPTS]) == (
        "UNSET",
        "ok",
        2,
    )
    assert first["parent"] == second["parent"] == phase["span_id"]
    assert attempts(house) == {"5xx": 1, "ok": 1}
    assert house.recorder.value(rows.PROVIDER_RETRIES_TOTAL, "simulated", "5xx") == 1
    assert not denied(house)


@pytest.mark.parametrize(
    "failure",
    [ProviderFailure("connect", retry_safe=True), *(from_status(status) for status in (408, 409, 429, 500, 503, 529))],
    ids=lambda failure: str(failure.provider_status or failure.kind),
)
def test_what_may_pass_is_tried_again(failure):
    client, _, house = talk(failure, WELL)
    assert client.types[-1] == "message_completed"
    assert attempts(house) == {failure.kind: 1, "ok": 1}
    assert house.recorder.value(rows.PROVIDER_RETRIES_TOTAL, "simulated", failure.kind) == 1


@pytest.mark.parametrize(
    "failure",
    [malformed(), *(from_status(status) for status in (400, 401, 403, 404, 413, 422))],
    ids=lambda failure: str(failure.provider_status or failure.kind),
)
def test_what_will_not_pass_is_not_tried_again(failure):
    client, _, house = talk(failure, WELL)
    assert client.event("error")["code"] == "provider_error"
    assert attempts(house) == {failure.kind: 1}
    assert denied(house) == {"unsafe": 1}


@pytest.mark.parametrize("most", [1, 3, 5])
def test_there_are_no_more_attempts_than_the_row_allows(most):
    client, model, house = talk(from_status(503), row={"max_attempts": most})
    assert client.event("error")["code"] == "provider_error"
    assert len(model.times) == most
    assert denied(house) == {"attempts": 1}
    assert retried(house) == most - 1


@pytest.mark.parametrize("begun", [(Text("So "),), (Text("So "), Text("it "))])
def test_once_there_was_a_token_nothing_is_tried_again(begun):
    client, model, house = talk((*begun, from_status(500)), WELL)
    assert client.event("error")["code"] == "provider_error"
    assert client.text == "".join(begun)
    assert len(model.times) == 1
    assert denied(house) == {"unsafe": 1}


def test_the_pause_is_drawn_anew_each_time_and_grows():
    seen = []
    for _ in range(40):
        _, model, _ = talk(from_status(500), from_status(500), WELL)
        first, second, third = model.times
        seen.append((second - first, third - second))
    assert all(0 <= first <= 0.1 and 0 <= second <= 0.2 for first, second in seen)


def test_a_retry_after_is_waited_for_when_it_is_longer_than_the_pause():
    _, model, _ = talk(from_status(429, retry_after=1.5), WELL)
    assert model.times[1] - model.times[0] == pytest.approx(1.5)


@pytest.mark.parametrize(("wait", "answered"), [(2.9, True), (3.1, False), (3600.0, False)])
def test_a_retry_that_does_not_fit_into_the_first_token_s_budget_is_not_waited_for(wait, answered):
    client, model, house = talk(from_status(429, retry_after=wait), WELL)
    assert (client.types[-1] == "message_completed") is answered
    if not answered:
        assert client.event("error")["code"] == "provider_rate_limited"
        assert denied(house) == {"deadline": 1}
        assert len(model.times) == 1


def test_the_budget_of_the_first_token_is_for_all_attempts_together():
    slow = (1.0, from_status(500))
    client, model, house = talk(slow, slow, slow, row={"max_attempts": 10})
    assert client.event("error")["code"] == "timeout"
    assert len(model.times) == 3
    assert attempts(house) == {"5xx": 2, "timeout": 1}
    assert house.recorder.value(rows.TIMEOUTS_TOTAL, "model.first_token", "phase") == 1
    assert house.recorder.total(rows.PHASE_DURATION_SECONDS, "model.stream") == pytest.approx(3.0)


def test_an_attempt_that_is_silent_for_the_whole_budget_is_a_timeout_of_the_provider():
    client, _, house = talk((60.0, *WELL))
    assert client.event("error")["code"] == "timeout"
    assert attempts(house) == {"timeout": 1}
    span = house.recorder.span("chat sim")
    assert (span["status"], span["attributes"][Attr.ERROR_TYPE]) == ("ERROR", "timeout")


def test_a_client_with_less_patience_than_the_budget_makes_no_timeout_of_the_provider():
    client, _, house = talk((60.0, *WELL), headers={"x-request-timeout-ms": "500"})
    assert client.event("error")["code"] == "timeout"
    assert attempts(house) == {"cancelled": 1}
    assert house.recorder.value(rows.TIMEOUTS_TOTAL, "model.first_token", "client") == 1


def test_while_a_retry_waits_its_place_serves_others():
    async def scenario(house):
        model = house.model._model = InTurn([from_status(429, retry_after=2.0)], WELL)
        house.gates["model"].set_limit(1)
        first = house.connect(house.client())
        await house.until(lambda: len(model.times) == 1)
        other = await house.chat(session="s2")
        assert other.types[-1] == "message_completed"
        assert "waiting_for_model" not in other.warnings()
        assert model.times[1] < model.times[0] + 1.0
        await first
        assert len(model.times) == 3

    in_house(scenario)


def test_a_process_whose_retries_are_used_up_gives_up_at_the_first_failure():
    async def scenario(house):
        house.model._model = InTurn([from_status(503)])
        retries = house.routes.choose("sim").retries
        while retries.take(asyncio.get_running_loop().time()):
            pass
        client = await house.chat()
        return client, house

    client, house = in_house(scenario)
    assert client.event("error")["code"] == "provider_error"
    assert attempts(house) == {"5xx": 1}
    assert denied(house) == {"budget": 1}


def test_a_client_that_leaves_during_the_pause_ends_the_turn_at_once():
    async def scenario(house):
        model = house.model._model = InTurn([from_status(429, retry_after=2.0)], WELL)
        client = house.client()
        task = house.connect(client)
        await house.until(lambda: model.times)
        await asyncio.sleep(0.5)
        client.leave()
        await task
        return model, house

    model, house = in_house(scenario)
    assert len(model.times) == 1
    assert house.requests("cancelled") == 1
    assert house.recorder.value(rows.CANCELLATIONS_TOTAL, "/chat/stream", "client_disconnect", "model.first_token") == 1


def test_what_failed_attempts_are_told_by_is_a_line_without_words_of_the_provider():
    _, _, house = talk(from_status(500, code="internal_error", request_id="req_7"), WELL)
    (line,) = house.recorder.logged(rows.LOG_PROVIDER_FAILED)
    assert (line["provider"], line["model"], line["kind"], line["status"]) == ("simulated", "sim", "5xx", 500)
    assert (line["request_id"], line["attempt"]) == ("req_7", 1)


# --- what the adaptive limit is told ------------------------------------------------------------------------------


@dataclass
class Told:
    """A limit that remembers what it was told."""

    value: int = 100
    samples: list = field(default_factory=list)
    dropped: int = 0

    def resize(self, value):
        self.value = value

    def update(self, now, *, sample, dropped, in_flight):
        self.dropped += dropped
        if sample is not None:
            self.samples.append(sample)


def told(*scripts, **client):
    async def scenario(house):
        house.model._model = InTurn(*(script if isinstance(script, tuple) else (script,) for script in scripts))
        house.gates["model"]._limit = limit = Told()
        await house.chat(**client)
        return limit

    return in_house(scenario)


def test_the_adaptive_limit_learns_the_time_to_the_first_token_and_not_the_stream_s_length():
    limit = told((0.7, Text("So "), 2.0, *WELL))
    assert limit.samples == [pytest.approx(0.7)]
    assert limit.dropped == 0


@pytest.mark.parametrize(
    "failure", [from_status(429), ProviderFailure("timeout", retry_safe=True)], ids=["429", "timeout"]
)
def test_a_refusal_for_too_many_requests_and_a_timeout_are_drops(failure):
    limit = told(failure, (0.2, *WELL))
    assert (limit.dropped, limit.samples) == (1, [pytest.approx(0.2)])


@pytest.mark.parametrize(("script", "dropped"), [((60.0,), 1), ((Text("So "), 60.0), 1), ((from_status(500),), 0)])
def test_silence_is_a_drop_and_a_mere_failure_is_none(script, dropped):
    assert told(script).dropped == dropped


def test_a_client_without_patience_teaches_the_limit_nothing():
    limit = told((60.0, *WELL), headers={"x-request-timeout-ms": "300"})
    assert (limit.dropped, limit.samples) == (0, [])


# --- what is counted ----------------------------------------------------------------------------------------------


def test_what_the_provider_did_not_count_is_counted_by_its_deltas():
    client, _, house = talk((Text("So "), Text("it "), Text("is."), Finish("stop")))
    assert client.event("message_completed")["usage"] == {"prompt_tokens": 0, "generated_tokens": 3}
    assert house.recorder.value(rows.GENERATED_TOKENS_TOTAL, "sim", "completed") == 3


def test_a_stream_that_breaks_off_leaves_what_it_generated_in_the_counts():
    _, _, house = talk((Text("So "), Text("it "), from_status(500)))
    assert house.recorder.value(rows.GENERATED_TOKENS_TOTAL, "sim", "errored") == 2


def test_the_longest_gap_is_one_between_two_deltas_and_not_the_wait_for_the_first():
    _, _, house = talk((2.0, Text("So "), 0.4, Text("it "), 1.5, *WELL))
    assert house.recorder.total(rows.STREAM_MAX_GAP_SECONDS, "sim") == pytest.approx(1.5)
    assert house.recorder.total(rows.PROVIDER_FIRST_TOKEN_SECONDS, "simulated", "sim") == pytest.approx(2.0)
