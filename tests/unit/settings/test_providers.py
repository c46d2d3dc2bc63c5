"""Providers' rows, what of them is refused, and what production asks for."""

from __future__ import annotations

import re

import pytest

ROW = '[[providers]]\nname = "a"\nkind = "openai_compatible"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["m"]\n'
BACKUP = '[[providers]]\nname = "b"\nkind = "simulated"\nmodels = ["sim"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROW.replace("base_url", "url"), r"forebay.toml:4: providers\[0\].url: unknown key; did you mean base_url"),
        (
            '[[providers]]\nname = "a"\nkind = "anthropic"\nmodels = ["m"]\n',
            r"forebay.toml:1: providers\[0\].base_url: ",
        ),
        (ROW + BACKUP.replace('"b"', '"a"'), r"forebay.toml:7: providers\[1\].name: another row"),
        (ROW + "generation_ms = 26000\n", r"forebay.toml:6: providers\[0\].generation_ms: .* total_ms \(25000\)"),
        (
            ROW + "first_token_ms = 20001\n",
            r"forebay.toml:6: providers\[0\].first_token_ms: .* generation_ms \(20000\)",
        ),
        (ROW + 'fallback = "c"\n', r"forebay.toml:6: providers\[0\].fallback: a fallback is the name of another row"),
        (ROW + 'fallback = "a"\n', r"forebay.toml:6: providers\[0\].fallback: a fallback is the name of another row"),
        (ROW + 'fallback = "b"\n' + BACKUP, r"forebay.toml:6: providers\[0\].fallback: the row b must say approved"),
        (ROW + 'aliases = {fast = "n"}\n', r"forebay.toml:6: providers\[0\].aliases.fast: an alias points"),
        (ROW + 'api_key = "sk-1"\n', r"forebay.toml:6: providers\[0\].api_key: a secret is not written here"),
        (ROW + 'api_key_env = "sk-1"\n', r"forebay.toml:6: providers\[0\].api_key_env: "),
        (ROW.replace('"m"', '"a\\u0007"'), r"forebay.toml:5: providers\[0\].models: a model's id"),
    ],
)
def test_a_providers_row_that_cannot_be_is_refused(refused, text, message):
    assert re.match(message, refused(text))


@pytest.mark.parametrize("key", ['api_key_env = "KEY"\n', 'api_key_file = "/run/secrets/key"\n'])
@pytest.mark.parametrize("who", ["ann:hunter2@", "ann@", ":hunter2@", "@"])
def test_an_address_with_a_user_and_a_password_does_not_go_with_a_key(accepted, refused, key, who):
    text = ROW.replace("127.0.0.1", f"{who}127.0.0.1")
    message = refused(text + key)
    assert message == (
        "forebay.toml:4: providers[0].base_url: the row a has a key, so its address may not have a user or a password"
    )
    assert accepted(text).providers[0].base_url.startswith(f"http://{who}")
    assert accepted(ROW.replace("/v1", "/v1?mail=ann@example.org") + key)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[mcp]]\nname = "b"\nurl = "http://ann:pw@h"\napi_key_file = "/k"\n',
            r"forebay.toml:3: mcp\[0\].url: the row b",
        ),
        (
            '[suggestions]\nurl = "http://ann:pw@h"\napi_key_file = "/k"\n',
            "forebay.toml:2: suggestions.url: the section",
        ),
    ],
)
def test_nor_does_that_of_a_tool_server_or_of_the_suggestions(refused, text, message):
    assert any(re.match(message, line) for line in refused(text).splitlines())


def test_what_was_given_is_never_repeated(refused):
    message = refused(
        ROW
        + 'api_key = "sk-secret"\napi_key_env = "sk-secret"\n'
        + '[server]\nmetrics_token = "sk-secret"\n[state]\nurl = "sk-secret"\n'
    )
    assert len(message.splitlines()) == 4
    assert "sk-secret" not in message


def test_a_row_may_have_longer_budgets_than_the_rest(accepted):
    row = accepted(ROW + "first_token_ms = 60000\ngeneration_ms = 110000\ntotal_ms = 120000\n").providers[0]
    assert (row.first_token_ms, row.total_ms) == (60_000, 120_000)


def test_a_fallback_may_be_simulated_in_development_only(accepted, refused):
    text = ROW + 'fallback = "b"\n' + BACKUP + "approved_fallback = true\n"
    assert accepted(text).providers[0].fallback == "b"
    guarded = 'environment = "production"\n[server]\nops_port = 8081\n'
    assert "stands in for no other in production" in refused(guarded + text)


def test_production_asks_for_a_guard_on_metrics_and_hides_what_is_for_trying_out(accepted, refused):
    production = 'environment = "production"\n'
    assert "server.metrics_token_env: in production /metrics needs a token" in refused(production)
    assert "in production /metrics" in refused(production + "[server]\nops_port = 8080\n")
    settings = accepted(production + "[server]\nops_port = 8081\n")
    assert (settings.serves_playground, settings.serves_docs, settings.has_demo_key) == (False, False, False)
    assert [row.kind for row in settings.providers] == ["local"]
    guarded = accepted(production + '[server]\nmetrics_token_env = "TOKEN"\nplayground = true\n', TOKEN="t")
    assert (guarded.serves_playground, guarded.serves_docs) == (True, False)
    development = accepted("")
    assert (development.serves_playground, development.serves_docs, development.has_demo_key) == (True, True, True)


def test_a_providers_key_may_be_missing_in_development_only(accepted, refused):
    row = ROW + 'api_key_env = "UPSTREAM_KEY"\n'
    assert accepted(row).providers[0].api_key_env == "UPSTREAM_KEY"
    production = 'environment = "production"\n[server]\nops_port = 8081\n'
    assert "providers[0].api_key_env: the variable UPSTREAM_KEY is not set" in refused(production + row)
