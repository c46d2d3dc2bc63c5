"""What a start accepts, and how it says what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.settings import Settings, load, read_secret
from service.settings_errors import SettingsError, key_lines
from service.settings_groups import Rate

EXAMPLE = Path(__file__).parents[2] / "deploy" / "forebay.example.toml"
MCP_TWICE = '[[mcp]]\nname = "a"\ncommand = "x"\ntools = ["c"]\n[[mcp]]\nname = "{}"\ncommand = "x"\ntools = ["{}"]\n'


@pytest.fixture
def refused(tmp_path):
    """Return the message with which a file, and an environment, are refused; `forebay.toml` stands for its path."""

    def refuse(text, **environ):
        path = tmp_path / "forebay.toml"
        path.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load(path, None, environ)
        return str(caught.value).replace(str(path), "forebay.toml")

    return refuse


@pytest.fixture
def accepted(tmp_path):
    def accept(text, **environ):
        path = tmp_path / "forebay.toml"
        path.write_text(text)
        return load(path, None, environ)

    return accept


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


@pytest.mark.parametrize("rate", ['"60"', '"60 per minute"', '"0/minute"', '"6/fortnight"', "60"])
def test_what_is_no_rate_is_refused(refused, rate):
    assert refused(f"[limits]\ntenant_rate = {rate}\n").startswith(
        "forebay.toml:2: limits.tenant_rate: a rate is written"
    )


def test_every_error_is_told_with_its_own_line_or_variable(refused):
    message = refused(
        'enviroment = "production"\n[budgets]\ntotal_ms = "25s"\n\n'
        '[[providers]]\nname = "a"\nkind = "best"\nmodels = ["m"]\n',
        FOREBAY_SERVER__PORT="http",
        FOREBAY_SEVER__PORT="1",
    )
    assert sorted(message.splitlines()) == [
        "environment variable FOREBAY_SERVER__PORT: server.port: input should be a valid integer, unable to parse string as an integer",  # noqa: E501 -- one line of the output
        "environment variable FOREBAY_SEVER__PORT: sever.port: unknown section; did you mean server?",
        "forebay.toml:1: enviroment: unknown key; did you mean environment?",
        "forebay.toml:3: budgets.total_ms: input should be a valid integer, unable to parse string as an integer (a whole number of milliseconds)",  # noqa: E501 -- one line of the output
        "forebay.toml:7: providers[0].kind: input should be 'openai_compatible', 'anthropic', 'local' or 'simulated'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[budgets]\ntotal_s = 25\n", "forebay.toml:2: budgets.total_s: unknown key; did you mean total_ms?"),
        ("[budgets]\ntotal_ms = 2.5\n", "forebay.toml:2: budgets.total_ms: .* milliseconds"),
        ("[budgets]\n\ntotal_ms = 0\n", "forebay.toml:3: budgets.total_ms: .* milliseconds"),
        ("[budgets]\nrerank_ms = 30000\n", r"forebay.toml:2: budgets.rerank_ms: 30000 is more than total_ms \(25000\)"),
        ("[budgets]\nfirst_token_ms = 21000\n", r"forebay.toml:2: budgets.first_token_ms: .* generation_ms \(20000\)"),
        (
            "[budgets]\ntotal_ms = 1000\nfirst_token_ms = 3000\n",
            r"forebay.toml:3: budgets.first_token_ms: .* total_ms \(1000\)",
        ),
        ("[budgets]\ntoken_gap_ms = 21000\n", r"forebay.toml:2: budgets.token_gap_ms: .* generation_ms \(20000\)"),
        ("[limits]\nqueue_wait_ms = 26000\n", r"forebay.toml:2: limits.queue_wait_ms: .* budgets.total_ms \(25000\)"),
        ("[limits]\nqueue = 4\ntenant_queue = 5\n", r"forebay.toml:3: limits.tenant_queue: 5 is more than queue \(4\)"),
        ("[tools.x]\ntimeout_ms = 26000\n", "forebay.toml:2: tools.x.timeout_ms: 26000 is more than budgets.total_ms"),
        ('[limits]\nbackend = "redis"\n', "forebay.toml:1: limits.redis_url_env: backend = .redis. needs"),
        ('[jobs]\nengine = "temporal"\n', "forebay.toml:1: jobs.temporal_address: engine = .temporal. needs"),
        ('[jobs]\ntemporal_address = "temporal"\n', "forebay.toml:2: jobs.temporal_address: "),
        ('[jobs]\ntemporal_address = "http://temporal:7233"\n', "forebay.toml:2: jobs.temporal_address: "),
        ("[evaluation]\nsample_ratio = 1.5\n", "forebay.toml:2: evaluation.sample_ratio: .* less than or equal to 1"),
        ("[evaluation]\nsample_ratio = -0.1\n", "forebay.toml:2: evaluation.sample_ratio: .* than or equal to 0"),
        ("[evaluation]\nsample_ratio = nan\n", "forebay.toml:2: evaluation.sample_ratio: "),
        ('[evaluation]\nsample_ratio = "all"\n', "forebay.toml:2: evaluation.sample_ratio: .* valid number"),
        ("[evaluation]\nratio = 1.0\n", "forebay.toml:2: evaluation.ratio: unknown key; did you mean sample_ratio"),
        ('[[mcp]]\nname = "a"\n', r"forebay.toml:1: mcp\[0\]: give either command or url"),
        ('[[mcp]]\nname = "a"\nurl = "ftp://x"\n', r"forebay.toml:3: mcp\[0\].url: "),
        ('[[mcp]]\nname = "a"\ncommand = "x"\ntools = ["b.c"]\n', r"forebay.toml:4: mcp\[0\].tools"),
        ('[[mcp]]\nname = "a"\ncommand = "x"\napi_key_env = "K"\n', r"forebay.toml:4: .*api_key_env: a key is for a"),
        ('[[mcp]]\nname = "a"\nurl = "http://x"\napi_key_env = "K"\n', r"forebay.toml:4: .*variable K is not set"),
        ('[[mcp]]\nname = "a"\nurl = "http://x"\nenvironment = ["K"]\n', r"forebay.toml:4: .*variables are for a"),
        ('[[mcp]]\nname = "a"\ncommand = "x"\nenvironment = ["K"]\n', r"forebay.toml:4: .*variable K is not set"),
        ('[suggestions]\nurl = "http://x"\ntimeout_ms = 1501\n', r"forebay.toml:3: .*1501 is more than budgets.retr"),
        (MCP_TWICE.format("a", "d"), r"forebay.toml:6: mcp\[1\].name: another row has this name"),
        (MCP_TWICE.format("b", "c"), r"forebay.toml:8: mcp\[1\].tools: a tool's name stands for one tool only"),
        ('[state]\nurl = "mysql://x"\n', "forebay.toml:2: state.url: "),
        ('[telemetry]\notlp_endpoint = "localhost:4318"\n', "forebay.toml:2: telemetry.otlp_endpoint: "),
        ('default_model = "none"\n', "forebay.toml:1: default_model: no provider has this model"),
        ("providers = []\n", "forebay.toml:1: providers: at least one provider is needed"),
        (
            '[server]\nmetrics_token_env = "NOT_SET"\n',
            "forebay.toml:2: server.metrics_token_env: .* NOT_SET is not set",
        ),
        ("[server\n", r"forebay.toml: not TOML in UTF-8: .*line 1"),
    ],
)
def test_what_is_refused_names_file_line_and_key(refused, text, message):
    assert re.match(message, refused(text))


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


def test_what_was_given_is_never_repeated(refused):
    message = refused(
        ROW
        + 'api_key = "sk-secret"\napi_key_env = "sk-secret"\n'
        + '[server]\nmetrics_token = "sk-secret"\n[state]\nurl = "sk-secret"\n'
    )
    assert len(message.splitlines()) == 4
    assert "sk-secret" not in message


def test_a_smaller_total_does_not_put_defaults_in_the_wrong(accepted):
    assert accepted("[budgets]\ntotal_ms = 1000\n[limits]\nqueue = 10\n").limits.tenant_queue == 5


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


def test_lines_are_found_whatever_toml_is_written():
    lines = key_lines(
        'a = 1\n["b c"]\nd = """\n[x]\ny = 1\n"""\n[[r]]\n[[r]]\nm = [\n 1,\n]\nz = {q = 1}\n[r.s]\nt.u = 1\n'
    )
    assert lines[("a",)] == 1
    assert lines[("b c",)] == 2
    assert lines["b c", "d"] == 3
    assert ("x",) not in lines
    assert (lines["r", 0], lines["r", 1], lines["r", 1, "m"]) == (7, 8, 9)
    assert (lines["r", 1, "z", "q"], lines["r", 1, "s"], lines["r", 1, "s", "t", "u"]) == (12, 13, 14)
