"""What a directory of policies must be for the service to start."""

from __future__ import annotations

import pytest

from service.policy.loading import PolicyError, load


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
