"""What must be finished is finished, however often its caller is cancelled; and nothing is left behind."""

import asyncio

import pytest

from service.runtime.shelter import sheltered, together, until_done
from tests.virtual_loop import run


async def after(seconds, result=None, error=None, ended=None):
    """Take a while, then return or raise."""
    try:
        await asyncio.sleep(seconds)
    finally:
        if ended is not None:
            ended.append(asyncio.get_running_loop().time())
    if error is not None:
        raise error
    return result


async def cancelled_at(task, *moments):
    """Cancel `task` at each of `moments`, wait for its end, return when that was."""
    for moment in moments:
        asyncio.get_running_loop().call_at(moment, task.cancel)
    await asyncio.wait([task])
    return asyncio.get_running_loop().time()


def test_sheltered_work_gives_its_result_or_its_error():
    async def scene():
        assert await sheltered(after(1, "done")) == "done"
        with pytest.raises(ZeroDivisionError):
            await sheltered(after(1, error=ZeroDivisionError()))

    run(scene())


@pytest.mark.parametrize("moments", [(0,), (1,), (1, 2), (0, 1, 2, 2, 3)])
def test_its_caller_stays_until_it_is_done_and_is_cancelled_then(moments):
    async def scene():
        ended = []
        task = asyncio.create_task(sheltered(after(5, ended=ended)))
        await asyncio.sleep(0)
        assert await cancelled_at(task, *moments) == 5
        assert task.cancelled()
        assert ended == [5]

    run(scene())


@pytest.mark.parametrize("seed", range(20))
def test_a_cancellation_in_the_moment_of_its_end_is_not_lost(seed):
    async def caller():
        await sheltered(after(5))
        await asyncio.sleep(10)

    async def scene():
        task = asyncio.create_task(caller())
        await asyncio.sleep(0)
        assert await cancelled_at(task, 5) == 5
        assert task.cancelled()

    run(scene(), seed=seed)


def test_a_failure_of_cancelled_work_is_the_cause_of_the_cancellation_that_is_raised():
    async def caller(seen):
        try:
            await sheltered(after(5, error=ZeroDivisionError()))
        except asyncio.CancelledError as error:
            seen.append(type(error.__cause__))
            raise

    async def scene():
        seen = []
        task = asyncio.create_task(caller(seen))
        await cancelled_at(task, 1)
        assert task.cancelled()
        assert seen == [ZeroDivisionError]

    run(scene())


def test_until_done_waits_for_all_of_them_and_raises_nothing_of_theirs():
    async def scene():
        tasks = [asyncio.create_task(after(n, error=error)) for n, error in ((1, None), (3, ZeroDivisionError()))]
        tasks[0].cancel()
        await until_done(*tasks)
        assert asyncio.get_running_loop().time() == 3
        assert isinstance(tasks[1].exception(), ZeroDivisionError)
        await until_done()  # of none

    run(scene())


# --- together ---------------------------------------------------------------------------------------------------


def test_together_gives_all_results_in_their_order():
    async def scene():
        assert await together(after(2, "a"), after(1, "b")) == ("a", "b")
        assert asyncio.get_running_loop().time() == 2

    run(scene())


def test_the_first_failure_cancels_the_others_and_is_raised_as_itself_once_they_have_ended():
    async def scene():
        ended = []
        with pytest.raises(ZeroDivisionError):
            await together(after(9, ended=ended), after(1, error=ZeroDivisionError()), after(9, ended=ended))
        assert ended == [1, 1]

    run(scene())


def test_of_two_failures_one_is_raised():
    async def scene():
        with pytest.raises((ZeroDivisionError, KeyError)):
            await together(after(1, error=ZeroDivisionError()), after(1, error=KeyError()))

    run(scene())


def test_a_cancellation_of_the_caller_cancels_all_and_waits_for_them():
    async def scene():
        ended = []
        task = asyncio.create_task(together(after(9, ended=ended), after(9, ended=ended)))
        await asyncio.sleep(0)
        assert await cancelled_at(task, 4) == 4
        assert task.cancelled()
        assert ended == [4, 4]

    run(scene())
