"""Instances of JSON Schemas."""

import math

import jsonschema_rs
import pytest

from service.providers.simulated_schema import instance

QUESTION = "Does case C-1042 fall under policy P-7?"
TREE = {"type": "object", "properties": {"v": {"type": "integer"}, "sub": {"$ref": "#"}}, "required": ["v"]}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "string", "minLength": 30, "maxLength": 31},
        {"type": "string", "format": "date-time"},
        {"enum": ["a", "b"]},
        {"const": {"x": [1]}},
        {"type": ["null", "integer"], "minimum": 10},
        {"type": "integer", "exclusiveMinimum": 3, "maximum": 4},
        {"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 20},
        {"type": "integer", "minimum": -5, "maximum": -3},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "maxItems": 0},
        {"type": "array", "items": {"type": "null"}, "minItems": 2.0, "maxItems": 3.0},
        {"type": "string", "minLength": 30.0, "maxLength": 31.0},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "minItems": 2},
        {"type": "object", "required": ["a"], "additionalProperties": {"type": "string"}},
        {"properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "boolean"}}},
        {"allOf": [{"properties": {"a": {"type": "null"}}}, {"required": ["a"]}], "type": "object"},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "object", "properties": {"x": {"oneOf": [{"const": 1}, {"const": 2}]}}, "required": ["x"]},
        {"type": "object", "properties": {"case_id": {"type": "string", "pattern": "^C-[0-9]+$"}}},
        TREE,
    ],
)
def test_what_is_made_is_an_instance_of_its_schema(schema):
    jsonschema_rs.validate(schema, instance(schema, QUESTION, ["A fact."]))


def test_an_identifier_of_the_question_goes_where_one_of_its_kind_is_wanted():
    schema = {"type": "object", "properties": {"policy_id": {"type": "string"}, "case_id": {"type": "string"}}}
    assert instance(schema, QUESTION, ["x"]) == {"policy_id": "P-7", "case_id": "C-1042"}


def test_only_what_is_required_is_made_where_no_more_is_wanted():
    schema = {"properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}, "required": ["b"]}
    assert instance(schema, QUESTION, ["x"], optional=False) == {"b": True}


def lists_of(schema):
    """A schema of so many of these that they would fill the memory."""
    return {"type": "array", "minItems": 100, "items": {"type": "array", "minItems": 100, "items": schema}}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"type": "array", "items": {"type": "array", "items": {"type": "array", "minItems": 1e9}, "minItems": 1e9}},
        {"type": "string", "minLength": 10**9},
        lists_of({"type": "string", "minLength": 30_000}),
        lists_of({"const": "x" * 8_000}),
        lists_of({"enum": ["x" * 8_000]}),
        lists_of({"required": ["x" * 8_000]}),
    ],
    ids=[
        "itself",
        "itself in allOf",
        "two of itself",
        "arrays of arrays",
        "long",
        "texts",
        "values",
        "choices",
        "names",
    ],
)
def test_a_schema_without_an_end_is_given_up(schema):
    assert len(repr(instance(schema, QUESTION, ["x"]))) < 100_000


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/more", "more": {"properties": 5}},
        {"$ref": "#/more", "more": {"allOf": 5}},
        {"$ref": "#/more", "more": {"format": [1]}},
        {"$ref": "#/more", "more": {"type": "array", "minItems": "9"}},
        {"$ref": "#/more", "more": {"required": [[1]]}},
        {"type": "integer", "minimum": 10**400},
        {"type": "number", "exclusiveMinimum": 10**400},
        {"type": "integer", "minimum": math.inf},
        {"type": "number", "multipleOf": 1e-310, "minimum": 1},
    ],
)
def test_a_schema_that_cannot_be_followed_has_no_instance(schema):
    assert instance(schema, QUESTION, ["x"]) is None
