"""A turn that is stopped on request or by a shutdown, and two things at once: it ends once."""

import asyncio

import pytest

from service.errors import Cause, Forbidden
from telemetry import catalogue as rows
from tests.flow.house import ROUTE, in_house
from tests.support import proof_count

LONG = "sim:ttft_ms=500,tokens=100,interval_ms=20"

# --- on request, and by a shutdown ---------------------------------------------------------------------------------


def test_a_cancel_from_another_connection_ends_the_stream_with_error_cancelled():
    async def scenario(house):
        client = house.client(model=LONG)
        task = house.connect(client)
        await asyncio.sleep(1.0)
        assert house.turn.cancel(Cause.CLIENT_CANCEL)
        assert not house.turn.cancel(Cause.SHUTDOWN)
        await task
        assert client.types[-2:] == ["token_delta", "error"]
        assert client.event("error")["code"] == "cancelled"
        assert house.recorder.value(rows.CANCELLATIONS_TOTAL, ROUTE, "client_cancel", "model.tokens") == 1
        assert house.recorder.value(rows.CLIENT_DISCONNECTS_TOTAL) == 0
        assert house.recorder.value(rows.STREAM_ERRORS_TOTAL, "cancelled") == 1
        assert (await house.message()).status == "cancelled"

    in_house(scenario)


def test_a_shutdown_lets_turns_end_and_then_tells_the_rest_that_it_shuts_down():
    async def scenario(house):
        clients = [house.client(model=f"sim:ttft_ms=0,tokens={n},interval_ms=100") for n in (10, 100)]
        tasks = [house.connect(client) for client in clients]
        await asyncio.sleep(0.1)
        assert await house.parts.live.drain(5.0, Cause.SHUTDOWN, patience=1.0) == 0
        assert all(task.done() for task in tasks) or await asyncio.gather(*tasks)
        assert clients[0].types[-1] == "message_completed"
        error = clients[1].event("error")
        assert (error["code"], error["retryable"]) == ("shutting_down", True)
        assert house.recorder.value(rows.CANCELLATIONS_TOTAL, ROUTE, "shutdown") == 1
        assert house.statuses() == {"completed": 1, "cancelled": 1}

    in_house(scenario)


def test_a_shutdown_before_the_stream_is_a_503():
    async def scenario(house):
        house.policy.becomes(0.1, only="scope")
        client = house.client()
        task = house.connect(client)
        await asyncio.sleep(0.05)
        assert await house.parts.live.drain(0.0, Cause.SHUTDOWN, patience=1.0) == 0
        await task
        assert (client.status, client.problem["code"]) == (503, "shutting_down")
        assert house.recorder.value(rows.FIRST_TOKEN_MISSED_TOTAL) == 0

    in_house(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_a_turn_that_is_stopped_in_the_moment_in_which_it_begins_ends_all_the_same(seed):
    async def scenario(house):
        client = house.client()
        task = house.connect(client)
        await house.until(lambda: len(house.parts.live), step=0)
        assert house.turn.cancel(Cause.SHUTDOWN)
        async with asyncio.timeout(5):
            await task
        assert client.status == 503
        assert house.requests("cancelled") == 1

    in_house(scenario, seed=seed)


def test_a_server_that_gives_up_on_a_request_leaves_nothing_of_it():
    async def scenario(house):
        for after in (0.0, 0.001, 0.01, 0.3, 0.6, 2.0):
            client = house.client(model=LONG)
            task = house.connect(client)
            await asyncio.sleep(after)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            client.left = True  # nobody will hear of it
            house.assert_at_rest()

    in_house(scenario)


# --- two things at once --------------------------------------------------------------------------------------------


def test_a_client_that_leaves_while_a_failure_is_written_down_changes_nothing_of_it():
    async def scenario(house):
        house.store.becomes(0.2, only="end_turn")
        client = house.client(model="sim:ttft_ms=0,fail_at=3")
        task = house.connect(client)
        await house.until(lambda: house.parts.live and house.turn.error)
        client.leave()
        async with asyncio.timeout(5):
            await task
        assert house.requests("errored") == 1
        assert house.statuses() == {"failed": 1}
        assert house.recorder.value(rows.CLIENT_DISCONNECTS_TOTAL, ROUTE, "model.tokens") == 1

    in_house(scenario)


def test_a_shutdown_while_a_failure_is_written_down_does_not_keep_it_from_the_client():
    async def scenario(house):
        house.store.becomes(0.2, only="end_turn")
        client = house.client(model="sim:ttft_ms=0,fail_at=3")
        task = house.connect(client)
        await house.until(lambda: house.parts.live and house.turn.error)
        assert not house.turn.cancel(Cause.SHUTDOWN)
        async with asyncio.timeout(5):
            await task
        assert client.event("error")["code"] == "provider_error"

    in_house(scenario)


@pytest.mark.parametrize("seed", range(proof_count(30, 300)))
def test_a_stop_in_the_very_moment_of_a_timeout_is_one_of_the_two_and_not_both(seed):
    async def scenario(house):
        client = house.client(model="sim:stall_at=0", headers={"x-request-timeout-ms": "1000"})
        task = house.connect(client)
        turn = None
        while turn is None:
            await asyncio.sleep(0)
            turn = next(iter(house.parts.live), None)
        asyncio.get_running_loop().call_at(turn.started + 1.0, turn.cancel, Cause.CLIENT_CANCEL)
        await task
        error = client.event("error")["code"]
        assert error in ("cancelled", "timeout")
        outcome = {"cancelled": "cancelled", "timeout": "timed_out"}[error]
        assert house.requests(outcome) == house.requests() == 1
        assert house.statuses() == {outcome: 1}
        assert house.recorder.value(rows.TIMEOUTS_TOTAL) == (error == "timeout")

    in_house(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(20))
def test_of_two_causes_at_once_the_first_is_the_cause(seed):
    async def scenario(house):
        client = house.client(model=LONG)
        task = house.connect(client)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.7)
        turn, at = house.turn, loop.time() + 0.1
        loop.call_at(at, turn.cancel, Cause.SHUTDOWN)
        loop.call_at(at, client.leave)
        await task
        causes = {cause: house.recorder.value(rows.CANCELLATIONS_TOTAL, "", cause) for cause in Cause}
        assert sum(causes.values()) == causes[turn.cause] == 1
        assert house.recorder.value(rows.CLIENT_DISCONNECTS_TOTAL) <= 1

    in_house(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(20))
def test_a_refusal_and_a_leaving_at_once_are_one_outcome(seed):
    async def scenario(house):
        house.policy.becomes(0.1, Forbidden(), only="scope")
        client = house.client()
        client.leave_in(0.1)
        await house.connect(client)
        assert house.requests("rejected") + house.requests("cancelled") == house.requests() == 1

    in_house(scenario, seed=seed)
