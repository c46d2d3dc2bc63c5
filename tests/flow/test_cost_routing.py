"""Who answers as a tenant's budget runs out: the row that was drawn, then a cheaper one for the same id, then nobody.

What each scene emits of the catalogue: LOG_CHEAPER_ROUTE, and the attribute INSTEAD_OF on the request's span.
"""

import asyncio
from dataclasses import replace

import pytest

from service.ports import Finish, Text, Usage
from service.providers.rows import Price, ProviderRow
from service.runtime.quota import Rules
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import ANN, ROUTE, in_house
from tests.flow.parts import Says

SELDOM = 1e-12  # a weight that is never drawn beside 1
# An answer of at most 1000 tokens reserves 0.01 of the dear row, 0.001 of the cheap one; the question next to nothing.
DEAR = ProviderRow("dear", "openai_compatible", ("large",), prices=Price(0.1, 10.0), max_output_tokens=1000)
CHEAP = replace(DEAR, name="cheap", prices=Price(0.01, 1.0), weight=SELDOM)
WELL = (Text("All is "), Text("well."), Finish("stop"), Usage(100, 100))
COSTS = {"dear": 1.01e-3, "cheap": 1.01e-4}  # such an answer


def a_day(scenario, *, cost, spent=0.0, providers=(DEAR, CHEAP), **daily):
    """Play `scenario(house)` where a tenant may spend `cost` a day, of which it has `spent` something."""

    async def scene(house):
        for model in house.models.values():
            model._model = Says(*WELL)
        if spent:
            (await house.quota.admit(ANN.tenant, ANN.user, {})).settle({"cost": spent})
        return await scenario(house)

    return in_house(scene, rows=providers, rules=Rules(daily={"cost": cost, **daily}))


def asked(house):
    """Whom the turns asked, with how many answers each."""
    return {name: len(model.calls) for name, model in house.models.items() if model.calls}


def told(client):
    """What became of a turn, and what it was warned of."""
    return client.status, client.warnings() if client.status == 200 else []


async def one_turn(house):
    client = await house.chat(model="large")
    return told(client), asked(house)


def test_with_enough_left_the_row_that_was_drawn_answers_and_nothing_is_said():
    async def scenario(house):
        assert await one_turn(house) == ((200, []), {"dear": 1})
        assert house.quota.used("demo")["cost"] == pytest.approx(COSTS["dear"])
        assert not house.recorder.logged(rows.LOG_CHEAPER_ROUTE)
        assert Attr.INSTEAD_OF not in house.recorder.span(f"POST {ROUTE}")["attributes"]

    a_day(scenario, cost=1.0)


def test_a_cheaper_row_answers_where_the_drawn_one_s_reservation_does_not_fit():
    async def scenario(house):
        assert await one_turn(house) == ((200, ["cheaper_route"]), {"cheap": 1})

    a_day(scenario, cost=0.02, spent=0.011)  # 45 % are left, and yet less than 0.01


@pytest.mark.parametrize(("spent", "answers"), [(0.89, "dear"), (0.91, "cheap")])
def test_with_less_than_a_tenth_of_the_day_left_a_cheaper_row_answers_though_the_drawn_one_would_fit(spent, answers):
    async def scenario(house):
        assert (await one_turn(house))[1] == {answers: 1}

    a_day(scenario, cost=1.0, spent=spent)


def test_the_client_the_trace_and_the_log_say_that_it_was_not_the_one_that_was_drawn():
    async def scenario(house):
        client = await house.chat(model="large")
        assert client.types[:2] == ["message_start", "warning"]
        assert "large" in client.event("warning")["message"]
        assert not any(name in client.raw.decode() for name in ("dear", '"cheap"')), "providers are nobody's business"
        assert house.recorder.span(f"POST {ROUTE}")["attributes"][Attr.INSTEAD_OF] == "dear"
        (line,) = house.recorder.logged(rows.LOG_CHEAPER_ROUTE)
        assert [line[key] for key in ("tenant", "model", "provider", "instead_of")] == [
            "demo", "large", "cheap", "dear",
        ]  # fmt: skip

    a_day(scenario, cost=1.0, spent=0.95)


def test_what_was_meant_to_happen_is_no_degradation():
    async def scenario(house):
        await one_turn(house)
        assert house.requests("completed") == 1
        assert house.recorder.value(rows.DEGRADATIONS_TOTAL) == 0

    a_day(scenario, cost=1.0, spent=0.95)


def test_the_cheaper_row_s_price_is_reserved_and_charged():
    async def scenario(house):
        house.models["cheap"]._model = Says(1.0, *WELL)
        serving = house.connect(house.client(model="large"))
        await house.until(lambda: house.models["cheap"].open)
        assert house.quota.used("demo")["cost"] == pytest.approx(0.95 + 0.001, abs=1e-5)
        await serving
        assert house.quota.used("demo")["cost"] == pytest.approx(0.95 + COSTS["cheap"])

    a_day(scenario, cost=1.0, spent=0.95)


def test_when_none_fits_the_quota_refuses_as_ever():
    async def scenario(house):
        client = await house.chat(model="large")
        assert (client.status, client.problem["code"]) == (429, "rate_limited")
        assert "cost" in client.problem["detail"]
        assert house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, "quota") == 1
        assert (asked(house), house.quota.used("demo")["cost"]) == ({}, 0.9995)

    a_day(scenario, cost=1.0, spent=0.9995)


def test_nobody_goes_on_elsewhere_because_of_another_limit():
    async def scenario(house):
        client = await house.chat(model="large")
        assert (client.status, "tokens" in client.problem["detail"]) == (429, True)

    shorter = replace(CHEAP, max_output_tokens=10)  # it would fit
    a_day(scenario, cost=1.0, tokens=500, providers=(DEAR, shorter))


def test_a_dearer_row_is_never_taken_instead():
    async def scenario(house):
        assert await one_turn(house) == ((200, []), {"cheap": 1})
        house.quota._used["demo"]["cost"] = 0.9995
        assert (await house.chat(model="large")).status == 429

    shorter = replace(DEAR, weight=SELDOM, max_output_tokens=10)  # it would fit
    a_day(scenario, cost=1.0, spent=0.95, providers=(replace(CHEAP, weight=1.0), shorter))


def test_the_cheapest_of_several_answers():
    async def scenario(house):
        assert (await one_turn(house))[1] == {"cheap": 1}

    middle = replace(CHEAP, name="middle", prices=Price(0.05, 5.0))
    a_day(scenario, cost=1.0, spent=0.95, providers=(DEAR, middle, CHEAP))


def test_a_cheaper_row_whose_circuit_is_open_is_no_way_out():
    async def scenario(house):
        (cheap,) = house.routes.choose("large").others
        now = asyncio.get_running_loop().time()
        for _ in range(20):
            cheap.circuit.attempt(now).end(now, failed=True)
        assert (await one_turn(house))[1] == {"dear": 1}

    a_day(scenario, cost=1.0, spent=0.95)


def test_behind_an_alias_the_model_that_answers_is_named_and_counted():
    async def scenario(house):
        client = await house.chat(model="good")
        assert client.event("message_start")["model"] == "small"
        assert "small" in client.event("warning")["message"]
        assert house.recorder.value(rows.GENERATED_TOKENS_TOTAL, "small", "completed") == 100
        (request,) = house.models["cheap"].calls
        assert request.model == "small"

    large, small = (
        replace(DEAR, aliases={"good": "large"}),
        replace(CHEAP, models=("small",), aliases={"good": "small"}),
    )
    a_day(scenario, cost=1.0, spent=0.95, providers=(large, small))


def test_a_replay_repeats_the_warning_of_the_answer_and_asks_nobody():
    async def scenario(house):
        first, again = [await house.chat(model="large", headers={"idempotency-key": "k"}) for _ in range(2)]
        assert told(again) == told(first) == (200, ["cheaper_route"])
        assert asked(house) == {"cheap": 1}

    a_day(scenario, cost=1.0, spent=0.95)


def test_turns_at_one_moment_share_what_is_left_and_each_is_told_who_answers():
    async def scenario(house):
        for model in house.models.values():
            model._model = Says(1.0, *WELL)
        clients = [house.client(model="large", session=f"s{number}") for number in range(20)]
        await asyncio.gather(*map(house.connect, clients))
        ends = [told(client) for client in clients]
        assert asked(house) == {"dear": 5, "cheap": 9}, "five times 0.01, and 0.001 as often as it still fits"
        assert (ends.count((200, [])), ends.count((200, ["cheaper_route"]))) == (5, 9)
        assert sum(client.status == 429 for client in clients) == 6

    a_day(scenario, cost=0.06)


def test_a_tenant_s_budget_is_no_other_tenant_s_affair():
    async def scenario(house):
        assert "cheaper_route" not in (await house.chat(model="large", key="Bearer eve")).warnings()
        assert asked(house) == {"dear": 1}

    a_day(scenario, cost=1.0, spent=0.95)


def test_without_a_budget_the_weights_alone_decide():
    async def scenario(house):
        house.models["dear"]._model = Says(*WELL)
        assert await one_turn(house) == ((200, []), {"dear": 1})

    in_house(scenario, rows=(DEAR, CHEAP))
