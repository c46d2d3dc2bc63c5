"""What a start refuses, and how it says so."""

from __future__ import annotations

import re

import pytest

from service.settings_errors import key_lines

MCP_TWICE = '[[mcp]]\nname = "a"\ncommand = "x"\ntools = ["c"]\n[[mcp]]\nname = "{}"\ncommand = "x"\ntools = ["{}"]\n'


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
