"""Checking JSON against schemas: the child processes, and their twin in virtual time."""

import asyncio

import pytest

from service.errors import InvalidAnswer
from service.runtime.schemas import ProcessSchemas
from service.runtime.schemas_inline import InlineSchemas

SCHEMA = {"type": "object", "properties": {"id": {"type": "string", "pattern": "^C-[0-9]+$"}}, "required": ["id"]}
FOR_YEARS = ({"type": "string", "pattern": "^(a+)+$"}, '"' + "a" * 40 + '!"')


@pytest.fixture(params=["processes", "inline"])
def check(request):
    """Call a method of the checker with these arguments."""

    async def with_processes(method, *arguments):
        schemas = ProcessSchemas(workers=1)
        await schemas.warm()
        try:
            return await getattr(schemas, method)(*arguments)
        finally:
            await schemas.close()

    def run(method, *arguments):
        if request.param == "inline":
            return asyncio.run(getattr(InlineSchemas(), method)(*arguments))
        return asyncio.run(with_processes(method, *arguments))

    return run


def test_what_meets_the_schema_has_no_problem(check):
    assert check("problem", SCHEMA, '{"id": "C-1042"}') is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"id": Infinity}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "'id' is a required property"),
        ('{"id": "1042"}', "at $.id"),
        ('{"id": "\\ud800"}', "at $.id"),
    ],
)
def test_what_does_not_is_told_in_words(check, text, words):
    assert words in check("problem", SCHEMA, text)


def test_a_reference_to_elsewhere_is_not_followed(check):
    assert "cannot be followed" in check("problem", {"$ref": "http://127.0.0.1:9/schema"}, "{}")


def test_a_schema_that_refers_to_itself_without_end_is_no_trap(check):
    assert "cannot be followed" in check("problem", {"$ref": "#"}, "{}")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"$ref": "#/title", "title": "no schema"}, "{}"),
        ({"$ref": "#/prefixItems/first", "prefixItems": [{}]}, "{}"),
        ({"$ref": "#/more", "more": {"multipleOf": 0}}, "1"),
        ({"$ref": "#/more", "more": {"pattern": "["}}, '"a"'),
        ({"multipleOf": 1e-310}, "1e400"),
    ],
    ids=["no schema", "nowhere", "by nothing", "no pattern", "no number"],
)
def test_a_schema_that_its_checker_stumbles_over_cannot_be_followed(check, schema, text):
    assert check("problem_of_schema", schema) is None
    assert "cannot be followed" in check("problem", schema, text)


def test_a_pattern_that_nothing_compiles_makes_no_schema(check):
    assert check("problem_of_schema", {"pattern": "a{99999999999}"}) == "cannot be followed"


def test_a_problem_is_cut(check):
    assert len(check("problem", {"enum": []}, '"' + "x" * 10_000 + '"')) <= 400


def test_what_is_no_schema_is_told_without_its_own_words(check):
    problem = check("problem_of_schema", {"type": "a secret"})
    assert "at $.type" in problem
    assert "secret" not in problem
    assert check("problem_of_schema", SCHEMA) is None


def test_a_pattern_that_would_take_years_is_stopped_and_the_next_check_works():
    async def scenario():
        schemas = ProcessSchemas(workers=1, limit=0.3)
        await schemas.warm()
        try:
            with pytest.raises(InvalidAnswer):
                await schemas.problem(*FOR_YEARS)
            schemas._limit = 10.0  # for the new process to start
            assert await schemas.problem(SCHEMA, '{"id": "C-1"}') is None
        finally:
            await schemas.close()

    asyncio.run(scenario())


def test_whoever_stops_waiting_leaves_at_once_and_the_process_is_replaced():
    async def scenario():
        schemas = ProcessSchemas(workers=1, limit=10.0)
        await schemas.warm()
        try:
            checking = asyncio.create_task(schemas.problem(*FOR_YEARS))
            await asyncio.sleep(0.05)  # real time: the process works on it
            checking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await checking
            assert await schemas.problem(SCHEMA, '{"id": "C-1"}') is None
        finally:
            await schemas.close()

    asyncio.run(scenario())
