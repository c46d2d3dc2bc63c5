"""What any policy must hold, asked of the one that ships: roles, tenants, labels, tools."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Forbidden
from service.policy.cedar import LABELS, CedarPolicy, ToolFacts
from service.ports import Document, Principal

TOOLS = (
    ToolFacts("case_lookup", side_effects=False),
    ToolFacts("policy_lookup", side_effects=False),
    ToolFacts("open_escalation_review", side_effects=True),
)
ROLES = ("analyst", "approver", "developer", "service")
POLICY = CedarPolicy(tools=TOOLS)


def principal(*roles, tenant="demo", user="ann"):
    return Principal(tenant, user, frozenset(roles), "key")


def document(*labels, tenant="demo", name="d1"):
    return Document(name, "title", "text", tenant, frozenset(labels))


def scope(*roles):
    return asyncio.run(POLICY.scope(principal(*roles)))


def test_an_analyst_sees_working_papers_and_may_ask_for_every_tool():
    allowed = scope("analyst")
    assert allowed.tenant == "demo"
    assert allowed.labels == {"public", "internal"}
    assert allowed.tools == {"case_lookup", "policy_lookup", "open_escalation_review"}


def test_an_approver_who_is_an_analyst_sees_restricted_papers_too():
    assert scope("analyst", "approver").labels == {"public", "internal", "restricted"}


@pytest.mark.parametrize("roles", [(), ("approver",), ("developer",), ("service",), ("admin",)])
def test_nobody_but_an_analyst_chats(roles):
    with pytest.raises(Forbidden):
        scope(*roles)


@pytest.mark.parametrize("roles", [("analyst",), ("approver",), ROLES])
def test_no_role_reads_a_sealed_paper(roles):
    assert not POLICY.may_read(principal(*roles), document("sealed"))
    assert not POLICY.may_read(principal(*roles), document("public", "sealed"))


def test_a_paper_needs_every_one_of_its_labels_permitted():
    assert POLICY.may_read(principal("analyst"), document("public", "internal"))
    assert not POLICY.may_read(principal("analyst"), document("public", "restricted"))


def test_a_paper_without_labels_is_the_whole_tenants():
    assert POLICY.may_read(principal("analyst"), document())
    assert not POLICY.may_read(principal("analyst"), document(tenant="other"))


def test_a_label_that_is_not_configured_is_seen_by_nobody():
    assert not POLICY.may_read(principal(*ROLES), document("public", "made-up"))


@pytest.mark.parametrize("kind", ["document_ingestion", "report", "chat"])
def test_an_analyst_creates_jobs_of_every_kind(kind):
    assert POLICY.allows(principal("analyst"), "job:create", kind=kind)
    assert not POLICY.allows(principal("approver", "developer", "service"), "job:create", kind=kind)


def test_an_approver_decides_also_on_a_call_of_its_own():
    for requester in ("ann", "bob"):
        assert POLICY.allows(principal("approver"), "approval:decide", tool="t", requested_by=requester)
        assert not POLICY.allows(principal("analyst"), "approval:decide", tool="t", requested_by=requester)


def test_an_approver_of_another_tenant_decides_nothing():
    stranger = principal("approver", tenant="other")
    assert not POLICY.allows(stranger, "approval:decide", tenant="demo", tool="t", requested_by="ann")


def test_only_a_developer_watches_phases():
    assert [role for role in ROLES if POLICY.allows(principal(role), "phase:read")] == ["developer"]


@pytest.mark.parametrize(
    ("action", "context"),
    [("chatt", {}), ("job:create", {}), ("chat", {"kind": "x"}), ("document:read", {}), ('"; permit', {})],
)
def test_a_question_that_does_not_fit_the_schema_is_a_deny(action, context):
    assert not POLICY.allows(principal(*ROLES), action, **context)


names = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


@given(tenant=names, other=names, user=names, labels=st.frozensets(st.sampled_from(sorted(LABELS))))
def test_no_name_of_a_tenant_or_user_opens_another_tenants_paper(tenant, other, user, labels):
    caller = principal(*ROLES, tenant=tenant, user=user)
    paper = document(*labels, tenant=other)
    assert POLICY.may_read(caller, paper) == (tenant == other and "sealed" not in labels)


@given(labels=st.frozensets(st.sampled_from(sorted(LABELS))), roles=st.frozensets(st.sampled_from(ROLES)))
def test_a_scope_and_the_check_of_each_document_agree(labels, roles):
    caller = principal("analyst", *roles)
    assert POLICY.may_read(caller, document(*labels)) == (labels <= asyncio.run(POLICY.scope(caller)).labels)
