"""What every state database must hold between processes: who is to stop a turn, and whose turns nobody goes on with."""

from typing import Any

from service.store.statements import beat
from service.store.values import Process
from tests.contract.stores import NOW, OWNER, Bench, ending, new_turn


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
