"""What a collector gets from the running service: OTLP over HTTP, decoded with OpenTelemetry's own messages.

Four turns, one for each way in which a turn ends, and the trace that each of them leaves.
"""

from types import SimpleNamespace

import pytest

from service.chat.plan import PLAN
from telemetry.catalogue import ATTRIBUTES, Attr
from tests.process import KEY, SIMULATED, Service, events
from tests.telemetry.otlp_sink import OtlpSink

UNSET, ERROR = 0, 2  # OTLP's status codes
SECRET = "swordfish-7"
MESSAGE = f"What is case C-1042 about, and what of {SECRET}?"
PHASES = {row.name for row in PLAN} - {"tool.call"}
# What OpenTelemetry's own instrumentation puts on the SERVER span: the stable conventions for HTTP.
HTTP = {
    "client.address", "client.port", "http.request.method", "http.response.status_code", "http.route",
    "network.protocol.version", "server.address", "server.port", "url.path", "url.scheme", "user_agent.original",
}  # fmt: skip

TOTAL_MS, FIRST_TOKEN_MS, GAP_MS = 200_000, 60_000, 3000  # the last one is waited for, and by a turn that goes well not
MODELS = {
    "completed": "sim:ttft_ms=40,tokens=20,interval_ms=1",
    "timed_out": "sim:stall_at=3,interval_ms=1",
    "errored": "sim:fail_at=3,interval_ms=1",
    "cancelled": "sim:stall_at=3,interval_ms=1",
}


class Trace:
    """A turn's spans, and what the client knows of it."""

    def __init__(self, spans):
        self.spans = spans
        (self.server,) = [span for span in spans if span["kind"] == "server"]
        self.facts = self.server["attributes"]
        self.by_id = {span["span_id"]: span for span in spans}

    def named(self, name):
        return [span for span in self.spans if span["name"] == name]

    def span(self, name):
        (found,) = self.named(name)
        return found

    def parent(self, span):
        return self.by_id[span["parent"]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Run the four turns against one service; return their traces, all bytes that were sent, and the log."""
    budgets = f"[budgets]\ntotal_ms = {TOTAL_MS}\nfirst_token_ms = {FIRST_TOKEN_MS}\ntoken_gap_ms = {GAP_MS}\n"
    with OtlpSink() as sink:
        config = f'{budgets}[telemetry]\notlp_endpoint = "{sink.url}"\n{SIMULATED}'
        with Service(tmp_path_factory.mktemp("otlp"), config) as service:
            ids = {outcome: _turn(service, outcome) for outcome in MODELS}
            traces = {outcome: Trace(sink.trace(trace_id)) for outcome, trace_id in ids.items()}
            log = service.log
        yield SimpleNamespace(traces=traces, bodies=list(sink.bodies), paths=set(sink.paths), log=log)


def _turn(service, outcome):
    """One turn, which the client leaves if it is to be cancelled; return its trace id."""
    ask = {"session_id": "s1", "message": MESSAGE, "model": MODELS[outcome]}
    with service.client() as client, client.stream("POST", "/chat/stream", json=ask) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        if outcome == "cancelled":
            next(line for line in lines if line == "event: token_delta")
        else:
            told = events("\n".join(lines))
            assert told[-1][0] == ("message_completed" if outcome == "completed" else "error")
    return answer.headers["x-request-id"]


@pytest.fixture(params=MODELS)
def outcome(request):
    return request.param


@pytest.fixture
def trace(seen, outcome):
    return seen.traces[outcome]


def test_a_request_has_one_server_span_and_every_other_span_is_below_it(trace):
    assert trace.server["parent"] == ""
    for span in trace.spans:
        at = span
        while at is not trace.server:
            at = trace.parent(at)
    assert trace.server["name"] == "POST /chat/stream"
    assert trace.facts["http.route"] == "/chat/stream"
    assert trace.facts["http.response.status_code"] == 200


def test_the_server_span_says_how_the_request_ended(trace, outcome):
    assert trace.facts[Attr.PHASE] == "http.request"
    assert trace.facts[Attr.REQUEST_OUTCOME] == outcome
    assert trace.server["status"] == (ERROR if outcome in ("timed_out", "errored") else UNSET)
    expected = {"timed_out": "timeout", "errored": "provider_error"}.get(outcome)
    assert trace.facts.get(Attr.ERROR_TYPE) == expected
    assert trace.facts.get(Attr.REQUEST_CAUSE) == ("client_disconnect" if outcome == "cancelled" else None)
    decided_by = trace.facts[Attr.REQUEST_DECIDED_BY]
    assert decided_by == "state.persist" if outcome == "completed" else decided_by.startswith("model.")


def test_the_server_span_says_whose_turn_it_was_and_what_it_took(trace):
    assert trace.facts[Attr.TENANT] == "demo"
    assert trace.facts[Attr.MESSAGE_ID].startswith("msg")
    assert trace.facts[Attr.GEN_AI_CONVERSATION_ID] == "s1"
    assert trace.facts[Attr.GEN_AI_REQUEST_MODEL] == "sim"
    assert trace.facts[Attr.GEN_AI_OUTPUT_TOKENS] >= 1
    assert trace.facts[Attr.TIME_TO_FIRST_TOKEN_MS] >= 0


def test_each_phase_is_a_span_with_its_budget_what_was_left_and_its_outcome(trace, outcome):
    phases = [span for span in trace.spans if Attr.OUTCOME in span["attributes"] and span["kind"] == "internal"]
    ran = PHASES if outcome == "completed" else PHASES - {"finalize"}
    assert {span["name"] for span in phases} == ran
    for span in phases:
        facts = span["attributes"]
        assert facts[Attr.PHASE] == span["name"]
        assert trace.parent(span) is trace.server
        assert 0 < facts[Attr.REMAINING_MS] <= TOTAL_MS
        assert (Attr.BUDGET_MS in facts) == (span["name"] != "stream.emit")
    first, last = trace.span("input.validation"), trace.named("state.persist")[-1]
    assert first["attributes"][Attr.REMAINING_MS] >= last["attributes"][Attr.REMAINING_MS]
    others = [span for span in phases if span["name"] not in ("model.stream", "stream.emit")]
    assert {span["attributes"][Attr.OUTCOME] for span in others} == {"ok"}


def test_the_model_s_phase_says_what_became_of_it_and_against_which_budget(trace, outcome):
    span = trace.span("model.stream")
    facts = span["attributes"]
    became = {"completed": "ok", "timed_out": "timeout", "errored": "error", "cancelled": "cancelled"}
    assert facts[Attr.OUTCOME] == became[outcome]
    assert facts[Attr.FIRST_TOKEN_BUDGET_MS] == FIRST_TOKEN_MS
    assert facts[Attr.GAP_BUDGET_MS] == GAP_MS
    assert span["status"] == (ERROR if outcome in ("timed_out", "errored") else UNSET)
    if outcome == "timed_out":
        assert (facts[Attr.TIMEOUT_LIMIT], facts[Attr.ON_TIMEOUT]) == ("phase", "fail_closed")
        assert facts[Attr.ERROR_TYPE] == "timeout"


def test_each_attempt_is_a_client_span_with_the_conventions_of_generative_ai(trace, outcome):
    attempt = trace.span("chat sim")
    assert attempt["kind"] == "client"
    assert trace.parent(attempt) is trace.span("model.stream")
    facts = attempt["attributes"]
    assert facts[Attr.GEN_AI_OPERATION] == "chat"
    assert facts[Attr.GEN_AI_PROVIDER] == "simulated"
    assert facts[Attr.GEN_AI_REQUEST_MODEL] == "sim"  # never its parameters: they are the client's words
    if outcome == "completed":
        assert facts[Attr.GEN_AI_FINISH_REASONS] == ["stop"]
        assert facts[Attr.GEN_AI_OUTPUT_TOKENS] == 20
        assert facts[Attr.GEN_AI_TIME_TO_FIRST_CHUNK] >= 0.04


def test_no_span_stands_for_a_piece_of_the_body(trace):
    assert not [span["name"] for span in trace.spans if "http" in span["name"].lower().split()]
    assert len(trace.spans) < 20


def test_every_attribute_that_leaves_the_process_has_its_row(seen):
    spans = [span for trace in seen.traces.values() for span in trace.spans]
    assert {name for span in spans for name in span["attributes"]} <= ATTRIBUTES.keys() | HTTP
    assert {name for span in spans for name, _ in span["events"]} <= {"exception"}


def test_spans_arrive_where_the_settings_say_with_the_name_of_the_service(seen):
    assert seen.paths == {"/v1/traces"}
    resource = seen.traces["completed"].server["resource"]
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("forebay", "development")


@pytest.mark.parametrize("what", [SECRET, KEY, "C-1042", "Bearer", "ttft_ms", "swordfish"])
def test_no_word_of_a_message_and_no_key_is_in_any_span_or_line(seen, what):
    told = b"".join(seen.bodies) + str(seen.log).encode()
    assert what.encode() not in told
    assert b"/chat/stream" in told  # it is what was sent, and readable


def test_the_canonical_line_of_each_turn_carries_its_trace(seen):
    lines = {line["trace_id"]: line["outcome"] for line in seen.log if line["event"] == "request"}
    assert lines == {trace.server["trace_id"]: outcome for outcome, trace in seen.traces.items()}
