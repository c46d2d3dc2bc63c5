"""Policies of one's own, and the errors that only their evaluation can show."""

from __future__ import annotations

import shutil

from service.policy.cedar import CedarPolicy, ToolFacts
from service.policy.loading import HERE, SHIPPED
from service.ports import Document, Principal

ANN = Principal("demo", "ann", frozenset({"analyst", "approver"}), "key")


def written(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.cedar").write_text(text, encoding="utf-8")
    return tmp_path


def test_policies_of_ones_own_replace_those_that_ship(tmp_path):
    policy = CedarPolicy(written(tmp_path, own='permit (principal, action == Action::"chat", resource);'))
    assert policy.allows(Principal("t", "u", frozenset(), "key"), "chat")
    assert not policy.may_read(ANN, Document("d", "", "", "demo", frozenset({"public"})))


def test_with_four_eyes_nobody_decides_on_a_call_of_their_own(tmp_path):
    shutil.copytree(SHIPPED, tmp_path, dirs_exist_ok=True)
    shutil.copy(HERE / "examples" / "four_eyes.cedar", tmp_path)
    policy = CedarPolicy(tmp_path, tools=[ToolFacts("t", side_effects=True)])
    assert policy.allows(ANN, "approval:decide", tool="t", requested_by="bob")
    assert not policy.allows(ANN, "approval:decide", tool="t", requested_by="ann")


def test_a_forbid_that_fails_denies(tmp_path):
    # An overflow cannot be known before: Cedar skips such a rule, and the permit beside it would win.
    rule = 'forbid (principal, action, resource) when { resource.labels.contains("x") && 9223372036854775807 + 1 > 0 };'
    scoped = rule.replace("action,", 'action == Action::"document:read",')
    path = written(tmp_path, a="permit (principal, action, resource);", b=scoped)
    policy = CedarPolicy(path, labels=["x", "y"])
    assert policy.may_read(ANN, Document("d", "", "", "demo", frozenset({"y"})))
    assert not policy.may_read(ANN, Document("d", "", "", "demo", frozenset({"x"})))


def test_a_label_that_is_not_configured_is_seen_by_nobody_whatever_the_policy_says(tmp_path):
    policy = CedarPolicy(written(tmp_path, own="permit (principal, action, resource);"), labels=["public"])
    assert policy.may_read(ANN, Document("d", "", "", "demo", frozenset({"public"})))
    assert not policy.may_read(ANN, Document("d", "", "", "demo", frozenset({"public", "made-up"})))


def test_a_user_cannot_be_named_like_another_tenants_user(tmp_path):
    rule = 'permit (principal == User::"a%2Fb/c", action == Action::"chat", resource);'
    policy = CedarPolicy(written(tmp_path, own=rule))
    assert policy.allows(Principal("a/b", "c", frozenset(), "key"), "chat")
    assert not policy.allows(Principal("a", "b/c", frozenset(), "key"), "chat")
