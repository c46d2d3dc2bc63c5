"""A chat turn that goes well: what the client, the store and the next turn know of it."""

import asyncio

import pytest

from service.ports import Finish, Text, Usage
from telemetry import catalogue as rows
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.parts import Says


def test_a_turn_streams_its_events_in_order_and_ends_with_message_completed():
    async def scenario(house):
        return await house.chat()

    client = in_house(scenario)
    assert client.status == 200
    assert client.types == ["message_start", "retrieval_completed", "token_delta", "message_completed"]
    assert client.ended
    assert client.answer_headers["content-type"].startswith("text/event-stream")
    assert client.answer_headers["cache-control"] == "no-cache, no-transform"
    assert client.answer_headers["x-accel-buffering"] == "no"


def test_every_delta_is_one_event_as_the_model_sent_it_whatever_is_joined_in_one_write():
    said = ["One", " two", "", "\n\n", " three\r\n", "data: 4\n\n", "é\u2028"]

    async def scenario(house):
        house.model._model = Says(*map(Text, said), Finish("stop"))
        return await house.chat()

    client = in_house(scenario)
    assert [data["text"] for kind, data in client.events if kind == "token_delta"] == said
    assert client.writes < len(said)  # they were all there at once


def test_message_start_is_sent_after_admission_and_before_retrieval():
    async def scenario(house):
        house.retriever.becomes(seconds=1.0)
        client = house.client()
        task = house.connect(client)
        await house.until(lambda: client.events)
        assert client.types == ["message_start"]
        assert house.where == "retrieval.query"
        assert house.gates["requests"].statistics().in_use == 1
        await task
        start = client.event("message_start")
        (server,) = house.recorder.named("POST /chat/stream")
        assert start == {
            "message_id": (await house.message()).message_id,
            "session_id": "s1",
            "model": "sim",
            "trace_id": server["trace_id"],
        }

    in_house(scenario)


def test_the_answer_is_stored_as_it_was_streamed():
    async def scenario(house):
        client = await house.chat()
        return client, await house.message()

    client, message = in_house(scenario)
    assert message.status == "completed"
    assert message.text == client.text
    assert message.message_id == client.event("message_completed")["message_id"]


def test_the_end_of_a_stream_tells_citations_usage_and_duration():
    async def scenario(house):
        house.model._model = Says(0.5, Text("As [2] says, and [1], [2], [99]."), Finish("length"), Usage(120, 9))
        return await house.chat()

    client = in_house(scenario)
    found = [document["id"] for document in client.event("retrieval_completed")["documents"]]
    end = client.event("message_completed")
    assert end["citations"] == [found[1], found[0]]
    assert end["finish_reason"] == "length"
    assert end["usage"] == {"prompt_tokens": 120, "generated_tokens": 9}
    assert 500 <= end["duration_ms"] < 550


def test_message_completed_is_sent_only_after_the_commit():
    async def scenario(house):
        client = house.client(model="sim:tokens=3,interval_ms=100")
        task = house.connect(client)
        await house.until(lambda: client.text)
        house.conditions.commit = house.conditions.wait = 0.1
        while not task.done():
            assert ("message_completed" in client.types) <= (house.statuses() == {"completed": 1})
            await asyncio.sleep(0.001)

    in_house(scenario)


def test_a_turn_is_counted_once_with_its_tokens_and_its_tenant():
    async def scenario(house):
        house.model._model = Says(Text("All is well."), Finish("stop"), Usage(120, 9))
        await house.chat()
        return house.recorder

    seen = in_house(scenario)
    assert seen.value(rows.REQUESTS_TOTAL, ROUTE, "completed") == 1
    assert seen.value(rows.GENERATED_TOKENS_TOTAL, "sim", "completed") == 9
    assert seen.value(rows.PROMPT_TOKENS_TOTAL, "sim") == 120
    assert seen.value(rows.TENANT_TOKENS_TOTAL, "demo", "generated") == 9
    assert seen.value(rows.TENANT_REQUESTS_TOTAL, "demo", "completed") == 1
    assert seen.value(rows.PROVIDER_REQUESTS_TOTAL, "simulated", "ok") == 1
    assert seen.value(rows.WASTED_TOKENS_TOTAL) == seen.value(rows.STREAM_ERRORS_TOTAL) == 0


def test_time_to_first_token_runs_from_the_headers_to_the_first_delta_written():
    async def scenario(house):
        house.policy.becomes(seconds=0.1)
        house.model._model = Says(1.0, Text("Yes."), 1.0, Text(" It is."), Finish("stop"))
        await house.chat(body_delay=0.2, pause=0.05)
        return house.recorder

    seen = in_house(scenario)
    # the body, the policy, the model, and the write that takes the first token
    assert seen.total(rows.TIME_TO_FIRST_TOKEN_SECONDS, ROUTE, "sim") == pytest.approx(0.2 + 0.1 + 1.0 + 0.05, abs=0.01)
    assert seen.total(rows.PROVIDER_FIRST_TOKEN_SECONDS, "simulated", "sim") == pytest.approx(1.0)
    assert seen.total(rows.STREAM_MAX_GAP_SECONDS, "sim") == pytest.approx(1.0)


def test_a_silence_is_filled_with_comments_that_keep_the_connection_alive():
    async def scenario(house):
        house.model._model = Says(35.0, Text("At last."), Finish("stop"))
        return await house.chat()

    patient = {"total": 60.0, "first_token": 40.0}
    client = in_house(scenario, budgets=patient, row={"generation": 50.0})
    assert client.raw.count(b": keep-alive\n\n") == 2
    assert client.text == "At last."


# --- sessions ---------------------------------------------------------------------------------------------------


def test_a_turn_sees_what_was_completed_before_it_and_nothing_that_was_not():
    async def scenario(house):
        first = await house.chat("Who sold the power bank?", model="sim:tokens=5")
        await house.chat("And who else?", model="sim:fail_at=3")
        await house.chat("Is that all?", model="sim:tokens=5")
        spoken = [(m.role, m.content.rpartition("\n")[2]) for m in house.model.calls[-1].messages[1:]]
        assert ("user", "Who sold the power bank?") in spoken
        assert ("assistant", first.text) in spoken
        assert [role for role, _ in spoken].count("assistant") == 1
        assert spoken[-1] == ("user", "Is that all?")

    in_house(scenario)


def test_two_turns_at_once_in_one_session_each_see_what_was_committed_before_they_began():
    async def scenario(house):
        before = await house.chat("First?", model="sim:tokens=4")
        both = [house.client(f"Number {n}?", model="sim:tokens=20") for n in range(2)]
        await asyncio.gather(*map(house.connect, both))
        assert all(client.types[-1] == "message_completed" for client in both)
        for call in house.model.calls[1:]:
            said = [m.content for m in call.messages if m.role == "assistant"]
            assert said == [before.text]
        assert len(await house.store.messages(ANN.tenant, ANN.user, "s1")) == 6

    in_house(scenario)


@pytest.mark.parametrize("other", ["Bearer eve", "Bearer ben"])
def test_the_same_session_id_of_another_tenant_or_user_is_another_session(other):
    async def scenario(house):
        mine = await house.chat("My secret is swordfish.", model="sim:tokens=5")
        theirs = await house.chat("What was said?", model="sim:tokens=5", key=other)
        assert theirs.types[-1] == "message_completed"
        prompt = str(house.model.calls[-1].messages)
        assert "swordfish" not in prompt
        assert mine.text not in prompt
        assert [m.text for m in await house.store.messages(ANN.tenant, ANN.user, "s1")][1:] == [mine.text]

    in_house(scenario)
