"""What every state database must hold, whichever driver is behind it."""

import asyncio
from typing import Any

import pytest

from service.errors import PersistFailed
from service.ports import Begun, Message
from service.store.statements import beat
from service.store.values import Process
from telemetry.catalogue import LOG_STATE_FAILED
from tests.contract.stores import NOW, Bench, Postgres, ending, new_turn

OWNER = ("acme", "ann", "s")


def texts(messages: Any) -> list[tuple[str, str]]:
    return [(message.status, message.text) for message in messages]


async def under_way() -> None:
    """Let every task that was created take its first step, in whatever order."""
    for _ in range(2):
        await asyncio.sleep(0)


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


def test_a_failing_write_leaves_nothing_and_spares_its_neighbours(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn("twice"))
        async with bench.stalled():
            writes = [
                asyncio.create_task(bench.store.begin_turn(new_turn(number, session=f"s{index}")))
                for index, number in enumerate([1, "twice", 2, "\ud800"])
            ]
            await under_way()
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(result) for result in results] == [Begun, PersistFailed, Begun, PersistFailed]
        for index, known in enumerate([True, False, True, False]):
            assert bool(await bench.store.messages("acme", "ann", f"s{index}")) == known

    database.run(scenario)


def test_a_write_that_fails_halfway_leaves_nothing_of_its_first_half(database):
    def halfway() -> Any:
        yield "INSERT INTO tenants (id, created_at) VALUES (?, 1)", ("half",)
        yield "INSERT INTO tenants (id, created_at) VALUES (?, 1)", (None,)

    async def scenario(bench: Bench) -> None:
        failed, done = await asyncio.gather(
            bench.driver.write(halfway()), bench.store.create_key("whole", "ann", ["analyst"]), return_exceptions=True
        )
        assert isinstance(failed, Exception)
        assert isinstance(done, str)
        assert await bench.store.tenants() == ("whole",)

    database.run(scenario)


def test_a_write_that_is_cancelled_while_it_waits_leaves_nothing(database):
    async def scenario(bench: Bench) -> None:
        async with bench.stalled():
            write = asyncio.create_task(bench.store.begin_turn(new_turn()))
            await under_way()
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
        await bench.store.begin_turn(new_turn(2, session="after"))
        assert await bench.store.messages(*OWNER) is None

    database.run(scenario)


def test_after_a_cancellation_at_any_moment_the_commit_was_told_exactly_if_it_happened(database):
    async def scenario(bench: Bench) -> None:
        happened: list[bool] = []
        number = -1
        while len(happened) < 60 or set(happened) != {True, False}:  # from before the commit to after it
            number += 1
            assert number < 600, "no moment was on either side of the commit"
            await bench.store.begin_turn(new_turn(number, session=f"s{number}"))
            told: list[int] = []
            write = asyncio.create_task(bench.store.end_turn(ending(number), lambda told=told: told.append(1)))
            await bench.moment(number // 2)
            write.cancel()
            await asyncio.wait([write])
            answer = (await bench.store.history("acme", "ann", f"s{number}", 1))[0]
            assert (answer.status == "completed", len(told)) in {(True, 1), (False, 0)}
            assert write.cancelled() or told
            happened.append(bool(told))

    database.run(scenario)


def test_fifty_writes_at_once_share_transactions(database):
    if isinstance(database, Postgres):
        return  # it joins commits by itself, where no statement shows it

    async def scenario(bench: Bench) -> None:
        with bench.counting_commits() as commits:
            async with bench.stalled():
                writes = [
                    asyncio.create_task(bench.store.begin_turn(new_turn(number, session=f"s{number}")))
                    for number in range(50)
                ]
                await under_way()
            await asyncio.gather(*writes)
        assert 1 <= len(commits) <= 5

    database.run(scenario)


def test_what_a_commit_tells_may_fail_without_harm_to_the_neighbours(database):
    async def scenario(bench: Bench) -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["exception"]))
        await bench.store.begin_turn(new_turn(1))
        await bench.store.begin_turn(new_turn(2))
        ended = await asyncio.gather(
            bench.store.end_turn(ending(1), lambda: {}["missing"]), bench.store.end_turn(ending(2))
        )
        assert ended == [True, True]
        assert [type(problem) for problem in problems] == [KeyError]

    database.run(scenario)


def test_a_database_that_fails_is_persist_failed_and_logged_without_its_words(database):
    async def scenario(bench: Bench) -> None:
        await bench.break_it()
        for call in (
            bench.store.history(*OWNER, 10),
            bench.store.begin_turn(new_turn()),
            bench.store.end_turn(ending()),
        ):
            with pytest.raises(PersistFailed) as caught:
                await call
            assert str(caught.value) == "The state database is not available"
        lines = bench.recorder.logged(LOG_STATE_FAILED)
        assert [line["operation"] for line in lines] == ["history", "begin_turn", "end_turn"]
        assert {line["error_type"] for line in lines} <= {"OperationalError", "UndefinedTableError"}
        assert "question" not in str(lines)

    database.run(scenario)


def test_more_writes_than_may_wait_are_refused_at_once(database, monkeypatch):
    for driver in ("sqlite", "inline", *(["postgres"] if isinstance(database, Postgres) else [])):
        monkeypatch.setattr(f"service.store.{driver}.MAX_WAITING", 3)

    async def scenario(bench: Bench) -> None:
        async with bench.stalled():
            writes = [asyncio.create_task(bench.store.begin_turn(new_turn(n, session=f"s{n}"))) for n in range(5)]
            await under_way()
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(result) for result in results].count(Begun) == 3
        assert sum(isinstance(result, PersistFailed) for result in results) == 2
        await bench.store.begin_turn(new_turn(6))

    database.run(scenario)


def test_a_closed_store_refuses(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn())
        await bench.store.close()
        with pytest.raises(PersistFailed):
            await bench.store.end_turn(ending())

    database.run(scenario)


def test_the_writes_that_wait_are_done_before_the_store_is_closed(database):
    async def scenario(bench: Bench) -> None:
        writes = [asyncio.create_task(bench.store.begin_turn(new_turn(n, session=f"s{n}"))) for n in range(5)]
        await under_way()
        await bench.store.close()
        assert [begun.message_id for begun in await asyncio.gather(*writes)] == [f"a{n}" for n in range(5)]

    database.run(scenario)


def test_any_character_of_a_text_is_taken(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(question="a\0b\n'\"? $1 %s 🦆"))
        question = (await bench.store.history(*OWNER, 10))[0].text
        assert question.replace("\ufffd", "\0") == "a\0b\n'\"? $1 %s 🦆"

    database.run(scenario)


# --- cancelling from another connection ---------------------------------------------------------------------------


def test_a_request_to_cancel_reaches_the_instance_that_answers_and_no_other(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(1, instance_id="one"))
        await bench.store.begin_turn(new_turn(2, instance_id="two"))
        assert await bench.store.request_cancel("a1")
        assert await bench.store.request_cancel("a1"), "asking twice is asking once"
        assert await bench.store.cancel_requests_for("one") == ("a1",)
        assert await bench.store.cancel_requests_for("two") == ()
        await bench.store.end_turn(ending(1, "cancelled"))
        assert await bench.store.cancel_requests_for("one") == ()

    database.run(scenario)


def test_what_has_ended_or_is_not_there_cannot_be_cancelled(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn())
        await bench.store.end_turn(ending())
        assert not await bench.store.request_cancel("a1")
        assert not await bench.store.request_cancel("nowhere")

    database.run(scenario)


def test_a_messages_owner_is_known_by_its_id(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn())
        owner = await bench.store.message_owner("a1")
        assert owner is not None
        assert (owner.tenant, owner.user, owner.status, owner.instance_id) == ("acme", "ann", "streaming", "one")
        assert await bench.store.message_owner("nowhere") is None

    database.run(scenario)


# --- instances ----------------------------------------------------------------------------------------------------


def test_only_the_streaming_messages_of_an_expired_instance_are_interrupted(database):
    async def scenario(bench: Bench) -> None:
        for instance in ("dead", "living"):
            await bench.store.beat(instance)
        await bench.store.begin_turn(new_turn(1, instance_id="dead"))
        await bench.store.begin_turn(new_turn(2, instance_id="dead"))
        await bench.store.end_turn(ending(2))
        await bench.store.begin_turn(new_turn(3, instance_id="living"))
        bench.clock.now += 9
        await bench.store.beat("living")
        assert await bench.store.interrupt_orphans(bench.clock.now) == ()
        bench.clock.now += 2
        assert await bench.store.interrupt_orphans(bench.clock.now) == ("a1",)
        assert await bench.store.interrupt_orphans(bench.clock.now) == ()
        answers = (await bench.store.history(*OWNER, 10))[1::2]
        assert [answer.status for answer in answers] == ["interrupted", "completed", "streaming"]
        assert not await bench.store.end_turn(ending(1)), "one that comes back late finds its turn taken"

    database.run(scenario)


def test_an_instance_whose_heart_beats_between_the_look_and_the_deed_is_spared(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.beat("slow")
        await bench.store.begin_turn(new_turn(1, instance_id="slow"))
        bench.clock.now += 60
        read = bench.driver.read

        async def beating_meanwhile(operation: Any) -> Any:
            found = await read(operation)
            await bench.driver.write(beat("slow", Process(), bench.clock.now))
            return found

        bench.driver.read = beating_meanwhile
        assert await bench.store.interrupt_orphans(bench.clock.now) == ()

    database.run(scenario)


def test_an_instance_that_was_given_up_comes_back_with_its_next_heartbeat(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.beat("asleep")
        bench.clock.now += 60
        await bench.store.interrupt_orphans(bench.clock.now)
        await bench.store.begin_turn(new_turn(1, instance_id="asleep", now=bench.clock.now))
        assert await bench.store.interrupt_orphans(bench.clock.now + 1) == (), "a turn of one about to come back"
        await bench.store.beat("asleep")
        bench.clock.now += 9
        assert await bench.store.interrupt_orphans(bench.clock.now) == ()

    database.run(scenario)


def test_a_turn_of_an_instance_that_never_comes_back_is_interrupted(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.begin_turn(new_turn(1, instance_id="unknown"))
        assert await bench.store.interrupt_orphans(NOW + 9) == ()
        assert await bench.store.interrupt_orphans(NOW + 11) == ("a1",)

    database.run(scenario)


def test_an_instance_that_left_in_order_leaves_nothing_to_interrupt(database):
    async def scenario(bench: Bench) -> None:
        await bench.store.beat("one")
        await bench.store.begin_turn(new_turn())
        await bench.store.end_turn(ending())
        await bench.store.leave("one")
        assert await bench.store.interrupt_orphans(NOW + 60) == ()

    database.run(scenario)


# --- keys ---------------------------------------------------------------------------------------------------------


def test_a_key_opens_for_its_user_with_its_roles_until_it_is_revoked(database):
    async def scenario(bench: Bench) -> None:
        key = await bench.store.create_key("acme", "ann", ["approver", "analyst"])
        who = await bench.store.authenticate(key)
        assert who is not None
        assert (who.tenant, who.user, who.roles) == ("acme", "ann", {"analyst", "approver"})
        assert await bench.store.tenants() == ("acme",)
        assert await bench.store.revoke_key(who.key_id)
        assert await bench.store.authenticate(key) is None
        assert not await bench.store.revoke_key(who.key_id)

    database.run(scenario)


@pytest.mark.parametrize("change", ["", "x", "fb_", "fb_none_0"])
def test_a_text_that_is_no_key_opens_nothing(database, change):
    async def scenario(bench: Bench) -> None:
        key = await bench.store.create_key("acme", "ann", ["analyst"])
        assert await bench.store.authenticate(change) is None
        assert await bench.store.authenticate(key[:-1] + ("0" if key[-1] != "0" else "1")) is None
        assert await bench.store.authenticate(key + change) is None or not change

    database.run(scenario)


def test_a_key_opens_nothing_once_it_has_expired(database):
    async def scenario(bench: Bench) -> None:
        key = await bench.store.create_key("acme", "ann", ["analyst"], expires_at=NOW + 60)
        assert await bench.store.authenticate(key)
        bench.clock.now = NOW + 60
        assert await bench.store.authenticate(key) is None

    database.run(scenario)


@pytest.mark.parametrize("text", ["swordfish", "fb_abc_def", "with_many_under_scores", "fb_demo_1"])
def test_the_demo_key_has_any_form_and_a_new_one_replaces_it(database, text):
    async def scenario(bench: Bench) -> None:
        await bench.store.put_demo_key("the old one")
        await bench.store.put_demo_key(text)
        who = await bench.store.authenticate(text)
        assert who is not None
        assert (who.tenant, who.user, who.roles) == ("demo", "demo", {"analyst", "approver", "developer"})
        assert await bench.store.authenticate("the old one") is None

    database.run(scenario)
