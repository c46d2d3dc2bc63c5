"""A chat turn that goes well, and what the client, the store, the traces and the metrics know of it."""

from telemetry import catalogue as rows
from tests.flow.house import in_house


def test_a_turn_streams_its_events_in_order_and_ends_with_message_completed():
    async def scenario(house):
        return await house.chat()

    client = in_house(scenario)
    assert client.status == 200
    assert client.types == ["message_start", "retrieval_completed", "token_delta", "message_completed"]
    assert client.ended


def test_the_answer_is_stored_as_it_was_streamed():
    async def scenario(house):
        client = await house.chat()
        return client, await house.message()

    client, message = in_house(scenario)
    assert message.status == "completed"
    assert message.text == client.text
    assert message.message_id == client.event("message_completed")["message_id"]


def test_a_turn_is_counted_once_as_completed():
    async def scenario(house):
        await house.chat()
        return house.recorder

    seen = in_house(scenario)
    assert seen.value(rows.REQUESTS_TOTAL, "/chat/stream", "completed") == 1
    assert seen.value(rows.TIME_TO_FIRST_TOKEN_SECONDS, "/chat/stream", "sim") == 1
