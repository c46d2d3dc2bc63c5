"""What every state database must hold of a turn, whichever driver is behind it: sessions, messages, endings."""

import asyncio

import pytest

from service.ports import Message
from tests.contract.stores import NOW, OWNER, Bench, ending, new_turn, texts


def test_a_session_that_nobody_began_is_empty_and_nobodys(database):
    async def scenario(bench: Bench) -> None:
        assert await bench.store.history(*OWNER, 10) == ()
        assert await bench.store.messages(*OWNER) is None

    database.run(scenario)


def test_a_turn_begins_with_the_question_completed_and_the_answer_streaming(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn())
        assert await bench.store.messages(*OWNER) == (
            Message("q1", "user", "completed", "question 1", NOW),
            Message("a1", "assistant", "streaming", "", NOW),
        )

    database.run(scenario)


def test_history_is_the_newest_messages_oldest_first(database):
    async def scenario(bench: Bench) -> None:
        for number in range(5):
            await bench.store.begin_turn(new_turn(number))
            await bench.store.end_turn(ending(number))
        found = await bench.store.history(*OWNER, 3)
        assert [message.text for message in found] == ["answer 3", "question 4", "answer 4"]

    database.run(scenario)


def test_the_same_session_id_of_another_owner_is_another_session(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(1, tenant="acme", user="ann"))
        await bench.store.begin_turn(new_turn(2, tenant="acme", user="bob"))
        assert [message.message_id for message in await bench.store.history("acme", "ann", "s", 10)] == ["q1", "a1"]
        assert [message.message_id for message in await bench.store.history("acme", "bob", "s", 10)] == ["q2", "a2"]
        assert await bench.store.messages("evil", "ann", "s") is None
        assert await bench.store.history("evil", "ann", "s", 10) == ()

    database.run(scenario)


def test_two_turns_at_once_each_see_what_was_committed_before_they_began(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(1))
        before = await bench.store.history(*OWNER, 10)
        await bench.store.begin_turn(new_turn(2))
        await bench.store.end_turn(ending(2))
        await bench.store.end_turn(ending(1))
        assert texts(before) == [("completed", "question 1"), ("streaming", "")]
        assert [message.text for message in await bench.store.history(*OWNER, 10)] == [
            "question 1",
            "answer 1",
            "question 2",
            "answer 2",
        ]

    database.run(scenario)


@pytest.mark.parametrize("status", ["completed", "cancelled", "failed", "timed_out"])
def test_a_turn_ends_with_its_status_and_its_text(database, status):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn())
        assert await bench.store.end_turn(ending(1, status, text="so far", citations=("d1",), error_code="timeout"))
        assert texts(await bench.store.history(*OWNER, 10))[1] == (status, "so far")

    database.run(scenario)


def test_of_ten_endings_at_once_one_wins_and_only_its_commit_is_told(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn())
        told: list[int] = []
        won = await asyncio.gather(
            *(
                bench.store.end_turn(ending(1, text=f"{number}"), lambda number=number: told.append(number))
                for number in range(10)
            )
        )
        assert won.count(True) == 1
        assert told == [won.index(True)]
        assert texts(await bench.store.history(*OWNER, 10))[1] == ("completed", str(told[0]))

    database.run(scenario)


def test_an_ending_of_a_message_that_is_not_there_is_refused_and_no_commit_is_told(database):
    async def scenario(bench: Bench) -> None:
        assert not await bench.store.end_turn(ending("nowhere"), pytest.fail)

    database.run(scenario)


def test_any_character_of_a_text_is_taken(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(question="a\0b\n'\"? $1 %s 🦆"))
        question = (await bench.store.history(*OWNER, 10))[0].text
        assert question.replace("\ufffd", "\0") == "a\0b\n'\"? $1 %s 🦆"

    database.run(scenario)
