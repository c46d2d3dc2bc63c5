"""A turn that has ended is gone at once, text and all: the garbage collector is kept off the streams and comes late."""

import gc

import pytest

from service.chat.turn import Turn
from service.errors import Cause
from tests.flow.house import in_house

LONG = "sim:tokens=500,interval_ms=10,ttft_ms=0"


async def whole(house):
    await house.chat(model="sim:tokens=50,interval_ms=0,ttft_ms=0")


async def left(house):
    client = house.client(model=LONG)
    client.leave_in(2)
    await house.connect(client)


async def left_before_the_first_token(house):
    client = house.client(model="sim:ttft_ms=2000")
    client.leave_in(1)
    await house.connect(client)


async def stalled(house):
    await house.connect(house.client(model="sim:tokens=500,interval_ms=0,ttft_ms=0", stops_reading_after=5))


async def cancelled(house):
    serving = house.connect(house.client(model=LONG))
    await house.until(lambda: house.model.open)
    house.turn.cancel(Cause.CLIENT_CANCEL)
    await serving


async def silent_model(house):
    await house.chat(model="sim:ttft_ms=60000")


async def failing_model(house):
    await house.chat(model="sim:fail_at=5,interval_ms=0")


async def refused(house):
    house.gates["requests"].set_limit(0)
    await house.chat()
    house.gates["requests"].set_limit(200)


async def refused_at_once(house):
    await house.chat(body={"nonsense": 1})


ENDINGS = [
    whole, left, left_before_the_first_token, stalled, cancelled, silent_model, failing_model, refused,
    refused_at_once,
]  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_turn_leaves_nothing_to_the_garbage_collector(ending):
    async def scenario(house):
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await ending(house)
            assert not [one for one in gc.get_objects() if isinstance(one, Turn)]
        finally:
            gc.enable()

    in_house(scenario)
