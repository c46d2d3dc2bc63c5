"""What every state database must hold of writes: all or nothing, told once, bounded, whatever is cancelled or fails."""

import asyncio
from typing import Any

import pytest

from service.errors import PersistFailed
from service.ports import Begun
from telemetry.catalogue import LOG_STATE_FAILED
from tests.contract.stores import OWNER, Bench, Postgres, ending, new_turn, under_way


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
