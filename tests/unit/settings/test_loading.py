"""Where settings come from: the file, the environment, the data folder; and that the example of a file is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.settings import Settings, load, read_secret
from service.settings_errors import SettingsError
from service.settings_groups import Rate

EXAMPLE = Path(__file__).parents[3] / "deploy" / "forebay.example.toml"


def test_without_a_file_the_defaults_are_the_contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load(None, None, {})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert (settings.budgets.total_ms, settings.budgets.first_token_ms, settings.budgets.emit_ms) == (
        25_000,
        3000,
        10_000,
    )
    assert (settings.limits.requests, settings.limits.queue, settings.limits.tenant_queue) == (200, 400, 200)
    assert [row.models for row in settings.providers] == [("smollm2",), ("sim",)]
    assert (settings.model, settings.database_url) == ("smollm2", "sqlite:///data/forebay.db")


def test_a_forebay_toml_in_the_working_folder_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forebay.toml").write_text("[server]\nport = 1234\n")
    assert load(None, None, {}).server.port == 1234


def test_a_file_that_is_asked_for_and_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no such file"):
        load(tmp_path / "none.toml", None, {})


def test_a_variable_wins_over_the_file(accepted):
    settings = accepted("[limits]\nqueue = 10\nrequests = 5\n", FOREBAY_LIMITS__QUEUE="20", FOREBAY_DEFAULT_MODEL="sim")
    assert (settings.limits.queue, settings.limits.requests, settings.model) == (20, 5, "sim")


def test_lists_tables_and_rows_can_be_given_as_variables(accepted):
    settings = accepted(
        "",
        FOREBAY_SERVER__ALLOWED_HOSTS='["a", "b"]',
        FOREBAY_TOOLS__CASE_LOOKUP__TIMEOUT_MS="100",
        FOREBAY_PROVIDERS='[{"name": "x", "kind": "simulated", "models": ["sim"]}]',
    )
    assert settings.server.allowed_hosts == ("a", "b")
    assert settings.tools["case_lookup"].timeout_ms == 100
    assert settings.model == "sim"


def test_the_processs_own_environment_is_not_read(monkeypatch, accepted):
    monkeypatch.setenv("FOREBAY_SERVER__PORT", "1")
    assert Settings().server.port == 8080
    assert accepted("").server.port == 8080


def test_rates_are_counts_for_a_period_in_seconds(accepted):
    assert accepted('[limits]\ntenant_rate = "60/minute"\n').limits.tenant_rate == Rate(60, 60.0)
    assert accepted("", FOREBAY_LIMITS__TENANT_RATE="5/second").limits.tenant_rate == Rate(5, 1.0)


def test_a_smaller_total_does_not_put_defaults_in_the_wrong(accepted):
    assert accepted("[budgets]\ntotal_ms = 1000\n[limits]\nqueue = 10\n").limits.tenant_queue == 5


def test_the_data_folder_replaces_the_default_database_and_both_are_refused(tmp_path, monkeypatch, accepted):
    monkeypatch.chdir(tmp_path)
    settings = load(None, tmp_path / "d", {})
    assert settings.database_url == f"sqlite:///{tmp_path}/d/forebay.db"
    assert settings.data_folder == tmp_path / "d"
    with pytest.raises(SettingsError, match=r"environment variable FOREBAY_STATE__URL: state.url: set either"):
        load(None, tmp_path, {"FOREBAY_STATE__URL": "sqlite:///x.db"})
    assert accepted('[state]\nurl = "sqlite:////srv/f/x.db"\n').data_folder == Path("/srv/f")
    elsewhere = accepted('[state]\nurl = "postgresql://u@127.0.0.1/f"\n')
    assert (elsewhere.data_folder, elsewhere.has_demo_key) == (Path("data"), False)


def test_settings_never_change():
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1


def test_the_database_is_not_shown(accepted):
    assert "hunter2" not in repr(accepted("", FOREBAY_STATE__URL="postgresql://u:hunter2@h/f"))


def test_approval_of_a_tool_is_a_word_or_a_truth_value(accepted):
    settings = accepted('[tools.a]\napproval = true\n[tools.b]\napproval = "not_required"\n')
    assert (settings.tools["a"].approval, settings.tools["b"].approval) == ("required", "not_required")


def test_a_secret_comes_from_its_variable_or_its_file(tmp_path):
    (tmp_path / "key").write_text("from-file\n")
    assert read_secret("", "", {}) is None
    assert read_secret("KEY", "", {}) is None
    assert read_secret("KEY", "", {"KEY": "from-variable"}).get_secret_value() == "from-variable"
    assert read_secret("", str(tmp_path / "key"), {}).get_secret_value() == "from-file"
    with pytest.raises(SettingsError, match="No such file"):
        read_secret("", str(tmp_path / "none"), {})


def test_the_example_loads_and_shows_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(EXAMPLE, None, {}).model_dump() == load(None, None, {}).model_dump()


def test_what_the_example_comments_out_loads_too(accepted):
    lines = EXAMPLE.read_text().splitlines()
    setting = re.compile(r"# ?((\[{1,2}[a-z._]+\]{1,2}|[a-z_]+ = .*)$)")
    text = "\n".join(found[1] if (found := setting.match(line)) else line for line in lines)
    settings = accepted(text.replace('data_dir = "./data"', ""))
    assert [row.name for row in settings.providers] == ["upstream", "backup"]
    assert settings.tools["case_lookup"].timeout_ms == 2000
    assert settings.mcp[0].tools == ("read_file",)
