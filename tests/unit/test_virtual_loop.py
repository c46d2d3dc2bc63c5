"""The harness itself: whatever it should catch is planted here, and caught."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.virtual_loop import EPOCH, VirtualLoop, VirtualLoopError, run, virtual_world


def test_an_hour_of_sleep_takes_no_time_and_the_clock_shows_exactly_that_hour():
    async def sleeper():
        await asyncio.sleep(3600.1)
        return asyncio.get_running_loop().time()

    assert run(sleeper()) == 3600.1


def test_timeouts_end_at_their_moment():
    async def late():
        async with asyncio.timeout(2.5):
            await asyncio.sleep(10)

    async def main():
        with pytest.raises(TimeoutError):
            await late()
        return asyncio.get_running_loop().time()

    assert run(main()) == 2.5


def test_task_groups_and_queues_work():
    async def main():
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(put_all(queue))
            taken = group.create_task(take(queue))
        return taken.result()

    async def put_all(queue):
        for number in range(5):
            await queue.put(number)

    async def take(queue):
        return [await queue.get() for _ in range(5)]

    assert run(main()) == [0, 1, 2, 3, 4]


async def _race():
    order: list[int] = []

    async def racer(number):
        for _ in range(3):
            await asyncio.sleep(1)
            order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(racer(number))
    return hashlib.sha256(repr(order).encode()).hexdigest()


def test_one_seed_gives_one_order_and_other_seeds_give_others():
    assert run(_race(), seed=7) == run(_race(), seed=7)
    assert len({run(_race(), seed=seed) for seed in range(10)}) == 10


def test_without_shuffling_every_seed_gives_the_order_of_asyncio():
    assert len({run(_race(), seed=seed, shuffle=False) for seed in range(5)}) == 1


def test_a_deadlock_is_told_with_the_stack_of_who_waits():
    async def waits_for_nobody():
        await asyncio.Event().wait()

    with pytest.raises(VirtualLoopError, match=r"deadlock at 0\.0 s(?s:.*)waits_for_nobody"):
        run(waits_for_nobody())


def test_a_heartbeat_does_not_hide_a_deadlock_for_ever():
    async def main():
        async def heartbeat():
            while True:
                await asyncio.sleep(2)

        beating = asyncio.create_task(heartbeat())
        await asyncio.Event().wait()
        beating.cancel()

    with pytest.raises(VirtualLoopError, match=r"still running after 60\.0 virtual seconds"):
        run(main(), limit=60.0)


def test_spinning_without_letting_time_pass_is_told():
    async def spin():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(VirtualLoopError, match="time stands still"):
        run(spin())


def test_a_task_left_over_fails_the_run():
    async def main():
        main.kept = asyncio.create_task(asyncio.sleep(5), name="forgotten")

    with pytest.raises(VirtualLoopError, match=r"task left over(?s:.*)forgotten"):
        run(main())


def test_a_generator_that_is_dropped_or_left_open_fails_the_run():
    async def numbers():
        yield 1
        yield 2

    async def drops():
        async for _ in numbers():
            break

    async def leaves_open():
        leaves_open.kept = numbers()
        await anext(leaves_open.kept)

    with pytest.raises(VirtualLoopError, match=r"dropped without aclose\(\): .*numbers"):
        run(drops())
    with pytest.raises(VirtualLoopError, match=r"generator left open: .*numbers"):
        run(leaves_open())


def test_an_exception_that_nobody_retrieves_fails_the_run():
    async def main():
        task = asyncio.create_task(fails())
        await asyncio.wait([task])

    async def fails():
        raise ValueError("lost")

    with pytest.raises(VirtualLoopError, match=r"never retrieved: ValueError\('lost'\)"):
        run(main())


def test_the_error_of_the_run_comes_through_with_its_seed():
    async def fails():
        await asyncio.sleep(1)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        run(fails(), seed=42)
    assert caught.value.__notes__ == ["seed=42 virtual time=1.000000 s"]


@pytest.mark.parametrize(
    "real",
    [
        lambda: asyncio.to_thread(print),
        lambda: asyncio.open_connection("127.0.0.1", 9),
        lambda: asyncio.start_server(print, "127.0.0.1", 0),
        lambda: asyncio.create_subprocess_exec("true"),
    ],
    ids=["thread", "connection", "server", "process"],
)
def test_threads_sockets_and_processes_are_refused(real):
    with pytest.raises(VirtualLoopError, match="in virtual time"):
        run(real())


def test_many_cancelled_timers_are_forgotten():
    loop = VirtualLoop()

    async def main():
        for _ in range(10_000):
            asyncio.get_running_loop().call_later(50, print).cancel()
        await asyncio.sleep(100)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main()) == 100
        assert loop._timer_cancelled_count == 0


def test_the_virtual_world_follows_the_loop_and_its_seed():
    world = virtual_world(3)

    async def main():
        await asyncio.sleep(12)
        return world.now()

    assert run(main()) == EPOCH + 12
    assert world.now() == EPOCH
    assert [world.new_id("msg"), world.new_id("call")] == ["msg_1", "call_2"]
    assert world.random.random() == virtual_world(3).random.random() != virtual_world(4).random.random()
