"""What a directory of policies must be for the service to start."""

from __future__ import annotations

import shutil

import pytest

from service.policy.cedar import CedarPolicy, ToolFacts
from service.policy.loading import HERE, SHIPPED, PolicyError, load
from service.ports import Document, Principal

ANN = Principal("demo", "ann", frozenset({"analyst", "approver"}), "key")


def written(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.cedar").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_shipped_policies_load():
    assert len(load().policies) == 9


def test_a_directory_without_policies_is_refused(tmp_path):
    with pytest.raises(PolicyError, match=r"no \*\.cedar file"):
        load(tmp_path)


def test_a_policy_that_does_not_parse_is_refused_with_its_file(tmp_path):
    with pytest.raises(PolicyError, match=r"broken\.cedar: .*parse"):
        load(written(tmp_path, broken="permit (principal, action, resource"))


def test_a_misspelt_attribute_is_refused_with_the_policys_name(tmp_path):
    text = '@id("by-tenant") forbid (principal, action, resource) unless { resource.tennant == principal.tenant };'
    with pytest.raises(PolicyError, match=r"own\.cedar: by-tenant .*tennant"):
        load(written(tmp_path, own=text))


def test_an_unknown_action_is_refused(tmp_path):
    with pytest.raises(PolicyError, match="Chat"):
        load(written(tmp_path, own='permit (principal, action == Action::"Chat", resource);'))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "own.cedar").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="cannot be read"):
        load(tmp_path)


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
