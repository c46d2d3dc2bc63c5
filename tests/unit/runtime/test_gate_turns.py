"""Whose turn it is at a gate: tenants one after the other, newcomers first, weights."""

import pytest

from tests.unit.runtime.line import Line, gate, settle
from tests.virtual_loop import run


def test_tenants_take_turns_whatever_the_length_of_their_lines():
    async def scene():
        line = Line(gate(1))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "A3", "A4", "B1", "B2", "C1")
        held.release()
        assert await line.serve() == ["A1", "B1", "C1", "A2", "B2", "A3", "A4"]

    run(scene(), shuffle=False)


def test_a_tenant_of_weight_two_gets_two_places_in_a_turn():
    async def scene():
        line = Line(gate(1, weights={"A": 2}))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "A3", "A4", "B1", "B2")
        held.release()
        assert await line.serve() == ["A1", "A2", "B1", "A3", "A4", "B2"]

    run(scene(), shuffle=False)


def test_a_newcomer_goes_before_those_who_have_had_a_turn_but_only_once():
    async def scene():
        line = Line(gate(1))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "A3", "A4")
        held.release()
        await settle()  # A1 has the place now, and A has had its turn
        await line.join("B1")
        line.tasks.pop("A1").result().release()
        await settle()
        assert line.order == ["A1", "B1"]
        await line.join("B2")  # no newcomer any more
        line.tasks.pop("B1").result().release()
        await settle()
        assert line.order == ["A1", "B1", "A2"]
        await line.serve()

    run(scene(), shuffle=False)


def test_a_newcomer_does_not_wait_for_the_turns_of_all_who_have_a_backlog():
    async def scene():
        line = Line(gate(1))
        held = line.gate.try_acquire("X")
        await line.join("A1", "A2", "B1", "B2", "C1", "C2")
        held.release()
        for name in ("A1", "B1", "C1"):
            await settle()
            line.tasks.pop(name).result().release()
        await settle()  # A2 has the place, then it is the turn of B and C
        await line.join("D1")
        assert await line.serve() == ["A1", "B1", "C1", "A2", "D1", "B2", "C2"]

    run(scene(), shuffle=False)


def test_a_weight_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        gate(1, weights={"A": 0.5})
