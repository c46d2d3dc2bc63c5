"""The tools that ship, each by itself."""

import asyncio

import pytest

from service.calls import ToolUse
from service.errors import ToolFailed
from service.retrieval import corpus
from service.runtime.schema_check import problem_of, problem_of_schema
from service.store.values import Review
from service.tools.registry import NAMES, shipped


class Register:
    """A register of reviews, in memory."""

    def __init__(self):
        self.reviews = {}

    async def open_review(self, tenant, key, case_id, reasons, who):
        if any(
            review.case_id == case_id
            for (owner, other), review in self.reviews.items()
            if owner == tenant and other != key
        ):
            return None
        return self.reviews.setdefault((tenant, key), Review("r1", case_id, tuple(reasons), who, 0.0))

    async def review(self, tenant, key):
        return self.reviews.get((tenant, key))


@pytest.fixture
def tools():
    return shipped({"demo": corpus.cases()}, {"demo": corpus.policies()}, Register())


def use(tools, name, tenant="demo", key="k", **arguments):
    return asyncio.run(tools[name].run(ToolUse(tenant, "ann", arguments, key)))


def test_the_names_are_known_before_the_tools_are_made(tools):
    assert tuple(tools) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one_and_takes_nothing_that_it_does_not_know(tools, name):
    schema = tools[name].spec.parameters
    assert problem_of_schema(schema) is None
    assert problem_of(schema, '{"unknown": 1}') is not None
    assert tools[name].shows <= schema["properties"].keys()


def test_only_what_changes_something_needs_an_approval(tools):
    assert {name for name, tool in tools.items() if tool.side_effects} == {"open_escalation_review"}
    assert all(tool.approval == tool.side_effects for tool in tools.values())


def test_a_case_is_found_by_its_id(tools):
    assert use(tools, "case_lookup", case_id="C-1042")["risk_score"] == 16


@pytest.mark.parametrize(("tenant", "case_id"), [("demo", "C-9"), ("rival", "C-1042")])
def test_a_case_that_is_not_there_and_one_of_another_tenant_look_the_same(tools, tenant, case_id):
    assert use(tools, "case_lookup", tenant, case_id=case_id) == {"case_id": case_id, "found": False}


@pytest.mark.parametrize(
    ("topic", "policy"),
    [
        ("when an escalation review is needed", "ESC-1"),
        ("what counts as evidence", "EVD-1"),
        ("who changes a status", "STA-1"),
    ],
)
def test_policies_are_found_by_topic(tools, topic, policy):
    assert use(tools, "policy_lookup", topic=topic)["policies"][0]["policy_id"] == policy


def test_a_topic_that_no_policy_bears_on_finds_none(tools):
    assert use(tools, "policy_lookup", topic="weather") == {"policies": []}


def test_a_review_is_opened_once_for_a_key(tools):
    first = use(tools, "open_escalation_review", case_id="C-1042", reasons=["c", "a"])
    assert first == use(tools, "open_escalation_review", case_id="C-1042", reasons=["c", "a"])
    assert first == {"review_id": "r1", "case_id": "C-1042", "reasons": ["a", "c"]}


def test_what_a_key_opened_can_be_looked_up(tools):
    tool = tools["open_escalation_review"]
    asked = ToolUse("demo", "ann", {"case_id": "C-1042", "reasons": ["a"]}, "k")
    assert asyncio.run(tool.lookup(asked)) is None
    done = asyncio.run(tool.run(asked))
    assert asyncio.run(tool.lookup(asked)) == done


def test_a_second_review_of_a_case_is_refused_and_so_is_one_of_no_case(tools):
    use(tools, "open_escalation_review", case_id="C-1042", reasons=["a"])
    with pytest.raises(ToolFailed, match="Another review"):
        use(tools, "open_escalation_review", key="another", case_id="C-1042", reasons=["a"])
    with pytest.raises(ToolFailed, match="no such case"):
        use(tools, "open_escalation_review", key="third", case_id="C-9", reasons=["a"])
    with pytest.raises(ToolFailed, match="no such case"):
        use(tools, "open_escalation_review", "rival", case_id="C-1042", reasons=["a"])
