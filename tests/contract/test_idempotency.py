"""What every state database must hold of Idempotency-Keys: a turn is begun once, again if it failed, or told."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import Conflict
from service.ports import Answered, Once
from tests.contract.stores import NOW, Bench, Database, Inline, Postgres, Sqlite, ending, new_turn

ONCE = Once("/chat/stream", "key", "0" * 64)
DAY = 86_400.0


@pytest.fixture(params=["inline", "sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    match request.param:
        case "inline":
            yield Inline()
        case "sqlite":
            yield Sqlite(tmp_path)
        case "postgres":
            with request.getfixturevalue("cluster").migrated_database() as url:
                yield Postgres(url)


def keyed(number: object = 1, once: Once = ONCE, **rest):
    return new_turn(number, once=once, **rest)


def test_a_new_key_begins_the_turn_under_its_own_ids(database):
    async def scenario(bench: Bench) -> None:
        told = []
        begun = await bench.store.begin_turn(keyed(), told.append)
        assert (begun.message_id, begun.user_message_id, begun.run, begun.answered) == ("a1", "q1", 1, None)
        assert told == [begun]

    database.run(scenario)


def test_of_many_at_once_with_one_key_one_begins(database):
    async def scenario(bench: Bench) -> None:
        for round_ in range(5):
            once = replace(ONCE, key=f"key{round_}")
            turns = (keyed(f"{round_}.{number}", once, session=f"s{round_}") for number in range(8))
            results = await asyncio.gather(*map(bench.store.begin_turn, turns), return_exceptions=True)
            assert sum(isinstance(result, Conflict) for result in results) == 7
            assert len(await bench.store.history("acme", "ann", f"s{round_}", 10)) == 2

    database.run(scenario)


def test_a_completed_turn_is_answered_from_the_store(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(keyed())
        values = {"finish_reason": "stop", "prompt_tokens": 7, "generated_tokens": 3, "citations": ("d1",)}
        assert await bench.store.end_turn(ending(1, "completed", events='[[0,"warning",{}]]', **values))
        begun = await bench.store.begin_turn(keyed(2))
        assert (begun.message_id, begun.session_id) == ("a1", "s")
        assert begun.answered == Answered("answer 1", "sim", "stop", 7, 3, ("d1",), '[[0,"warning",{}]]')
        assert len(await bench.store.history("acme", "ann", "s", 10)) == 2

    database.run(scenario)


def test_whether_a_key_s_turn_was_completed_can_be_seen_without_beginning_anything(database):
    async def scenario(bench: Bench) -> None:
        async def seen(once: Once = ONCE, user: str = "ann"):
            return await bench.store.completed_turn("acme", user, once)

        assert await seen() is None
        await bench.store.begin_turn(keyed())
        assert await seen() is None
        await bench.store.end_turn(ending(1, "completed", finish_reason="stop"))
        earlier = await seen()
        assert earlier == await bench.store.begin_turn(keyed(2))
        assert await seen(replace(ONCE, body_hash="1" * 64)) is await seen(user="bob") is None
        bench.clock.now += DAY + 1
        assert await seen() is None

    database.run(scenario)


@pytest.mark.parametrize("status", ["cancelled", "failed", "timed_out"])
def test_a_turn_that_did_not_complete_begins_again_under_its_ids_and_leaves_nothing_of_the_first(database, status):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(keyed())
        await bench.store.request_cancel("a1")
        await bench.store.end_turn(ending(1, status, text="half", error_code="timeout"))
        begun = await bench.store.begin_turn(keyed(2, instance_id="two"))
        assert (begun.message_id, begun.user_message_id, begun.run, begun.answered) == ("a1", "q1", 2, None)
        question, answer = await bench.store.history("acme", "ann", "s", 10)
        assert (question.text, answer.status, answer.text) == ("question 1", "streaming", "")
        assert await bench.store.cancel_requests_for("two") == ()
        with pytest.raises(Conflict):
            await bench.store.begin_turn(keyed(3))

    database.run(scenario)


def test_an_interrupted_turn_begins_again(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.beat("one")
        await bench.store.begin_turn(keyed())
        bench.clock.now += 60
        assert await bench.store.interrupt_orphans(bench.clock.now) == ("a1",)
        assert (await bench.store.begin_turn(keyed(2))).run == 2

    database.run(scenario)


def test_an_ending_of_an_earlier_run_does_not_end_the_next_one(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(keyed())
        await bench.store.end_turn(ending(1, "failed"))
        await bench.store.begin_turn(keyed(2))
        assert not await bench.store.end_turn(ending(1, "cancelled", run=1))
        assert await bench.store.end_turn(ending(1, "completed", run=2))

    database.run(scenario)


def test_another_body_is_a_conflict_whatever_became_of_the_turn(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(keyed())
        await bench.store.end_turn(ending(1, "failed"))
        with pytest.raises(Conflict):
            await bench.store.begin_turn(keyed(2, replace(ONCE, body_hash="1" * 64)))

    database.run(scenario)


@pytest.mark.parametrize(
    "other",
    [{"tenant": "evil"}, {"user": "bob"}, {"once": replace(ONCE, route="/v1/chat/completions")}],
    ids=["tenant", "user", "route"],
)
def test_a_key_belongs_to_one_tenant_user_and_route(database, other):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(keyed())
        assert (await bench.store.begin_turn(keyed(2, **other))).message_id == "a2"

    database.run(scenario)


def test_a_key_is_kept_for_a_day(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(keyed())
        await bench.store.end_turn(ending(1, "completed"))
        assert (await bench.store.begin_turn(keyed(2, now=NOW + DAY - 1))).answered
        bench.clock.now = NOW + DAY - 1
        await bench.store.forget_expired_keys()
        assert (await bench.store.begin_turn(keyed(3, now=NOW + DAY - 1))).answered
        assert (await bench.store.begin_turn(keyed(4, now=NOW + DAY))).message_id == "a4"

    database.run(scenario)
