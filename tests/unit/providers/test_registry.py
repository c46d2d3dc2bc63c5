"""What a model id means."""

import pytest

from service.errors import InvalidRequest, NotFound
from service.providers.registry import by_weight, resolve
from service.providers.rows import ProviderRow

SMALL = ProviderRow("one", "openai_compatible", ("small", "vendor/big:free"), aliases={"gpt-4o": "small"}, weight=3)
TWIN = ProviderRow("two", "openai_compatible", ("small",), weight=1)
SIM = ProviderRow("simulated", "simulated", ("sim",))
ROWS = (SMALL, TWIN, SIM)


@pytest.mark.parametrize(
    ("model_id", "row", "upstream_id", "label"),
    [
        ("small", SMALL, "small", "small"),
        ("vendor/big:free", SMALL, "vendor/big:free", "vendor/big:free"),
        ("gpt-4o", SMALL, "small", "small"),
        ("sim", SIM, "sim", "sim"),
        ("sim:tokens=5", SIM, "sim:tokens=5", "sim"),
    ],
)
def test_an_id_means_a_row_the_providers_id_and_a_label_without_parameters(model_id, row, upstream_id, label):
    found = resolve(model_id, ROWS)[0]
    assert (found.row, found.upstream_id, found.label) == (row, upstream_id, label)


@pytest.mark.parametrize("model_id", ["", "Small", "unknown", "small:tokens=5", "simulated:tokens=5"])
def test_an_unknown_id_is_not_found_and_names_no_other(model_id: str):
    with pytest.raises(NotFound) as refused:
        resolve(model_id, ROWS)
    assert not any(name in str(refused.value) for name in ("small", "big", "gpt", "one", "two"))


@pytest.mark.parametrize("model_id", ["sim:", "sim:nonsense=1", "sim:tokens=-1"])
def test_a_wrong_parameter_is_told_before_anything_is_done(model_id: str):
    with pytest.raises(InvalidRequest):
        resolve(model_id, ROWS)


def test_parameters_mean_nothing_without_a_simulated_row():
    with pytest.raises(NotFound):
        resolve("sim:tokens=5", (SMALL,))


def test_rows_that_serve_the_same_model_are_chosen_by_their_weight():
    served = resolve("small", ROWS)
    assert [one.row for one in served] == [SMALL, TWIN]
    drawn = [by_weight(served, draw=step / 100).row for step in range(100)]
    assert drawn.count(SMALL) == 75
    assert drawn.count(TWIN) == 25


def test_an_answers_length_is_the_smaller_of_what_is_asked_and_what_the_row_allows():
    row = ProviderRow("a", "local", ("m",), max_output_tokens=200)
    assert [row.output_limit(asked) for asked in (None, 100, 300)] == [200, 100, 200]
    assert SMALL.output_limit(None) is None
