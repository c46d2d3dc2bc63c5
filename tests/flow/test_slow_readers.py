"""Readers that are slow, or stop reading: they hold up nobody but themselves, and no clock but their own."""

import asyncio

import pytest

from service.ports import Finish, Usage
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import in_house
from tests.flow.parts import Says

QUICK = "sim:ttft_ms=0,interval_ms=0,tokens=200"


def test_a_slow_reader_s_time_is_charged_to_stream_emit_and_the_model_s_clocks_stand_still():
    async def scenario(house):
        client = await house.chat(model=QUICK, pause=0.6)
        assert client.types[-1] == "message_completed"
        assert client.event("message_completed")["usage"]["generated_tokens"] == 200
        took = asyncio.get_running_loop().time()
        assert took > 10  # far over the model's gap and generation
        seen = house.recorder
        assert seen.value(rows.TIMEOUTS_TOTAL) == 0
        blocked = seen.span("stream.emit")["attributes"][Attr.BLOCKED_ON_READER_MS]
        assert blocked == pytest.approx(took * 1000, abs=500)
        assert seen.value(rows.READER_BLOCKED_SECONDS_TOTAL) == pytest.approx(blocked / 1000, abs=0.01)
        assert 0 < seen.value(rows.PRODUCER_BLOCKED_SECONDS_TOTAL) < took
        assert seen.total(rows.STREAM_MAX_GAP_SECONDS) < 0.001

    in_house(scenario, stream_queue=8, budgets={"token_gap": 0.5}, row={"generation": 1.0})


def test_the_queue_never_holds_more_than_its_bound_and_one_place_for_the_end():
    async def scenario(house):
        client = house.client(model=QUICK, pause=0.3)
        task = house.connect(client)
        while not task.done():
            house.assert_sums()
            await asyncio.sleep(0.01)
        assert house.recorder.total(rows.STREAM_QUEUE_HIGH_WATER) == 8

    in_house(scenario, stream_queue=8)


def test_tokens_that_come_one_by_one_are_written_where_they_come_from_and_nobody_is_woken_for_them():
    async def scenario(house):
        client = await house.chat(model="sim:ttft_ms=5,interval_ms=5,tokens=200")
        assert sum(kind == "token_delta" for kind, _ in client.events) == 200
        assert client.written_at_once == 200
        assert house.recorder.total(rows.STREAM_QUEUE_HIGH_WATER) < 3
        assert (await house.message()).text == client.text

    in_house(scenario, stream_queue=8)


def test_a_reader_that_becomes_slow_and_quick_again_gets_everything_in_order():
    async def scenario(house):
        client = house.client(model="sim:ttft_ms=5,interval_ms=20,tokens=300")
        loop = asyncio.get_running_loop()
        for at, pause in ((1.0, 0.3), (3.0, 0.0), (4.0, 0.5), (4.2, 0.0)):
            loop.call_later(at, setattr, client, "pause", pause)
        await house.connect(client)
        client.assert_sound()
        assert sum(kind == "token_delta" for kind, _ in client.events) == 300
        assert 100 < client.written_at_once < client.writes < 299
        assert (await house.message()).text == client.text

    in_house(scenario, stream_queue=8)


def test_a_burst_gathers_though_its_reader_keeps_up():
    async def scenario(house):
        client = await house.chat(model=QUICK)
        assert sum(kind == "token_delta" for kind, _ in client.events) == 200
        assert client.writes < 40

    in_house(scenario, stream_queue=64)


def test_what_waits_is_joined_into_one_write_and_no_delta_is_lost():
    async def scenario(house):
        client = await house.chat(model=QUICK, pause=0.3)
        assert sum(kind == "token_delta" for kind, _ in client.events) == 200
        assert client.writes < 40
        assert (await house.message()).text == client.text

    in_house(scenario, stream_queue=8)


def test_a_read_larger_than_the_queue_waits_for_the_reader_and_nothing_of_it_is_lost_or_merged():
    async def scenario(house):
        words = tuple(f"word{number} " for number in range(50))
        house.model._model = Says(words, (*words, Finish("stop"), Usage(1, 100)))
        client = await house.chat(pause=0.6)
        told = [data["text"] for kind, data in client.events if kind == "token_delta"]
        assert told == [*words, *words]
        assert client.event("message_completed")["usage"]["generated_tokens"] == 100
        assert house.recorder.total(rows.STREAM_QUEUE_HIGH_WATER) == 8
        assert house.recorder.value(rows.TIMEOUTS_TOTAL) == 0
        assert house.recorder.total(rows.STREAM_MAX_GAP_SECONDS) < 0.001

    in_house(scenario, stream_queue=8, budgets={"token_gap": 0.5}, row={"generation": 1.0})


def test_a_client_that_leaves_in_the_middle_of_a_read_is_kept_what_it_could_be_sent():
    async def scenario(house):
        words = tuple(f"word{number} " for number in range(50))
        house.model._model = Says((*words, Finish("stop")))
        client = house.client(pause=0.6)
        task = house.connect(client)
        client.leave_in(2.0)
        await task
        stored = (await house.message()).text
        assert stored.startswith(client.text)
        assert len(client.text.split()) <= len(stored.split()) <= len(client.text.split()) + 2 * 8

    in_house(scenario, stream_queue=8)


def test_a_reader_that_stops_is_dropped_and_its_socket_freed_and_its_turn_cancelled():
    async def scenario(house):
        client = await house.chat(model="sim:tokens=1000,interval_ms=1", stops_reading_after=5)
        assert client.aborted
        assert asyncio.get_running_loop().time() == pytest.approx(10.2, abs=0.1)
        seen = house.recorder
        assert seen.value(rows.CANCELLATIONS_TOTAL, "", "stalled_reader", "model.tokens") == 1
        assert seen.value(rows.TIMEOUTS_TOTAL, "stream.emit", "phase") == 1
        assert seen.value(rows.CLIENT_DISCONNECTS_TOTAL) == 0
        assert seen.value(rows.STREAM_ERRORS_TOTAL) == 0
        assert (await house.message()).status == "cancelled"
        assert seen.span("chat sim")["attributes"][Attr.OUTCOME] == "cancelled"

    in_house(scenario)


def test_a_reader_that_stops_after_the_commit_is_dropped_and_its_turn_stays_completed():
    async def scenario(house):
        client = await house.chat(model=QUICK, stops_reading_after=4)
        assert client.aborted
        assert (await house.message()).status == "completed"
        assert house.requests("completed") == 1
        assert house.recorder.value(rows.CANCELLATIONS_TOTAL) == 0

    in_house(scenario, stream_queue=1000)


def test_a_reader_that_does_not_even_take_its_refusal_is_dropped():
    async def scenario(house):
        client = await house.chat(key="Bearer nobody", stops_reading_after=0)
        assert client.aborted
        assert asyncio.get_running_loop().time() == pytest.approx(10.0, abs=0.1)
        assert house.requests("rejected") == 1

    in_house(scenario)


def test_a_reader_that_takes_every_write_in_nine_seconds_is_slow_and_not_stalled():
    async def scenario(house):
        client = await house.chat(model="sim:ttft_ms=0,tokens=30,interval_ms=100", pause=9.0)
        assert client.types[-1] == "message_completed"

    in_house(scenario, budgets={"total": 100.0})


def test_the_whole_s_limit_goes_on_behind_a_slow_reader_and_the_error_still_gets_through():
    async def scenario(house):
        client = await house.chat(model="sim:ttft_ms=0,interval_ms=0,tokens=100000", pause=0.5)
        assert client.event("error")["code"] == "timeout"
        assert house.recorder.value(rows.TIMEOUTS_TOTAL, "model.total", "total") == 1
        assert 25 < asyncio.get_running_loop().time() < 36

    in_house(scenario, stream_queue=8)
