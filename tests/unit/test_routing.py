"""Who is chosen for a model id, who stands in for it, and what they share."""

from dataclasses import replace

import pytest

from service.ports import ModelRequest
from service.providers.rows import Price, ProviderRow
from service.routing import Routes, limit_of
from service.runtime.adaptive import Fixed, Gradient2
from service.runtime.gate import Gate
from telemetry.catalogue import LabelSets
from telemetry.testing import recording_observer
from tests.virtual_loop import virtual_world


def row(name, *models, kind="openai_compatible", **more):
    return ProviderRow(name, kind, models, **more)


def routes(*rows):
    labels = LabelSets(providers=tuple(one.name for one in rows), resources=tuple(f"model:{one.name}" for one in rows))
    observer, _ = recording_observer(labels)
    gates = {one.name: Gate(f"model:{one.name}", limit_of(one), queue=1, observer=observer) for one in rows}
    made = Routes(rows, rows[0].models[0], virtual_world(), gates, observer)
    for one in rows:
        made.add(one.name, None)  # nobody is asked
    return made


def test_two_turns_share_a_model_s_circuit_and_the_process_s_retries():
    made = routes(row("up", "small", "large"), row("other", "tiny"))
    one, two = made.choose("small"), made.choose("small")
    assert one.circuit is two.circuit
    assert made.choose("large").circuit is not one.circuit
    assert one.retries is made.choose("tiny").retries


def test_the_fallback_is_the_row_that_is_named_with_the_same_model_if_it_has_it():
    first = row("first", "large", "small", fallback="second", max_attempts=5)
    second = row("second", "tiny", "small", approved_fallback=True, max_attempts=2, fallback="first")
    made = routes(first, second)
    chosen = made.choose("large")
    assert (chosen.provider, chosen.max_attempts, chosen.fallback.provider, chosen.fallback.max_attempts) == (
        "first", 5, "second", 2,
    )  # fmt: skip
    assert (chosen.fallback.label, chosen.fallback.upstream) == ("tiny", "tiny")
    assert chosen.fallback.fallback is None, "one stands in, not one for another"
    adapted = chosen.fallback.adapt(ModelRequest("large", ()))
    assert adapted.model == "tiny"


def test_a_fallback_that_this_machine_cannot_run_is_none():
    assert routes(row("first", "large", fallback="local")).choose("large").fallback is None


def test_rows_that_serve_one_model_share_its_calls_by_their_weights():
    made = routes(row("light", "small", weight=1), row("heavy", "small", weight=3))
    chosen = [made.choose("small").provider for _ in range(2000)]
    assert 0.7 < chosen.count("heavy") / 2000 < 0.8


def test_an_alias_is_the_model_that_it_stands_for():
    chosen = routes(row("up", "small-2026", aliases={"small": "small-2026"})).choose("small")
    assert (chosen.label, chosen.upstream) == ("small-2026", "small-2026")


@pytest.mark.parametrize(
    ("kind", "places", "expected"),
    [
        ("openai_compatible", 50, Gradient2),
        ("anthropic", 8, Gradient2),
        ("simulated", 1000, Gradient2),
        ("openai_compatible", 7, Fixed),
        ("local", 8, Fixed),
    ],
)
def test_a_limit_is_found_out_where_there_are_enough_places(kind, places, expected):
    limit = limit_of(row("up", "small", kind=kind, max_concurrency=places))
    assert type(limit) is expected
    assert limit.value == places


def test_what_else_serves_an_id_at_another_price_comes_with_the_choice():
    dear, cheap = row("dear", "large", prices=Price(1, 2)), row("cheap", "large", prices=Price(1, 1), weight=1e-12)
    chosen = routes(dear, replace(dear, name="twin"), cheap, row("other", "small")).choose("large")
    assert [one.provider for one in chosen.others] == ["cheap"]
    assert chosen.others[0].others == ()
