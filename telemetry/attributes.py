"""Every span and every attribute name of Forebay's traces.

GenAI's semantic conventions are still in development: their names stand here and nowhere else.
"""

from __future__ import annotations

from types import MappingProxyType

from telemetry.rows import SpanRow

_meanings: dict[str, str] = {}


def _attribute(name: str, meaning: str) -> str:
    _meanings[name] = meaning
    return name


class Attr:
    """Names of attributes."""

    PHASE = _attribute("forebay.phase", "The phase that the span covers; `http.request` on the SERVER span.")
    BUDGET_MS = _attribute("forebay.budget_ms", "The phase's own budget, in milliseconds.")
    REMAINING_MS = _attribute("forebay.remaining_ms", "What was left of the total budget at the phase's start, in ms.")
    OUTCOME = _attribute("forebay.outcome", "How the phase ended.")
    ON_TIMEOUT = _attribute("forebay.on_timeout", "What happens at the budget: `fail_open` or `fail_closed`.")
    TIMEOUT_LIMIT = _attribute("forebay.timeout_limit", "Whose budget ended the phase: `phase`, `total` or `client`.")
    FIRST_TOKEN_BUDGET_MS = _attribute(
        "forebay.first_token_budget_ms", "Budget of the first token, all attempts, in ms."
    )
    GAP_BUDGET_MS = _attribute("forebay.gap_budget_ms", "Budget of the silence between two tokens, in ms.")
    BLOCKED_ON_READER_MS = _attribute("forebay.blocked_on_reader_ms", "Time that writes waited for the reader, in ms.")
    RESOURCE = _attribute("forebay.resource", "What a place was asked for.")
    WAIT_MS = _attribute("forebay.wait_ms", "Time from asking for a place to having it, in ms.")
    HITS = _attribute("forebay.hits", "Documents found.")
    DOCUMENTS = _attribute("forebay.documents", "Documents given to the model.")
    DEGRADED = _attribute("forebay.degraded", "Which dependencies the answer had to do without.")
    ATTEMPT = _attribute("forebay.attempt", "The number of this attempt, from 1.")
    ATTEMPTS = _attribute("forebay.attempts", "Attempts that were made.")
    FALLBACK = _attribute("forebay.fallback", "Whether the fallback provider answered.")
    INSTEAD_OF = _attribute(
        "forebay.instead_of", "The provider that was drawn, where a cheaper one was taken: the tenant has little left."
    )
    REPLAYED = _attribute("forebay.replayed", "Whether a stored result was given instead of a new one.")
    APPROVAL = _attribute("forebay.approval", "What came of the wait for an approval.")
    ERROR_CODE = _attribute("forebay.error.code", "The code that the client was told.")

    REQUEST_OUTCOME = _attribute("forebay.request.outcome", "How the request ended.")
    REQUEST_DECIDED_BY = _attribute("forebay.request.decided_by", "The phase that decided the outcome.")
    REQUEST_CAUSE = _attribute("forebay.request.cause", "Why the request was cancelled or refused.")
    TIME_TO_FIRST_TOKEN_MS = _attribute("forebay.time_to_first_token_ms", "Headers in to first delta written, in ms.")
    TENANT = _attribute("forebay.tenant", "The tenant that the key belongs to.")
    MESSAGE_ID = _attribute("forebay.message_id", "The answer's message.")
    JOB_ID = _attribute("forebay.job.id", "The job.")
    JOB_KIND = _attribute("forebay.job.kind", "The kind of job.")
    JOB_STEP = _attribute("forebay.job.step", "The step of the job.")
    PROVIDER_STATUS = _attribute("forebay.provider.status", "The HTTP status that the provider gave.")
    PROVIDER_ERROR_CODE = _attribute(
        "forebay.provider.error_code", "The provider's own error code, at most 64 characters."
    )
    PROVIDER_REQUEST_ID = _attribute("forebay.provider.request_id", "The provider's id of the call.")

    ERROR_TYPE = _attribute("error.type", "What kind of failure, of few kinds; only on failure.")
    EXCEPTION_TYPE = _attribute("exception.type", "The class of an exception that nobody foresaw.")
    EXCEPTION_STACKTRACE = _attribute("exception.stacktrace", "Its stack: files, lines and functions, no values.")
    HTTP_ROUTE = _attribute("http.route", "The route, as it was declared.")
    HTTP_STATUS = _attribute("http.response.status_code", "The status code that was answered.")
    SERVER_ADDRESS = _attribute("server.address", "The host that was called.")
    SERVER_PORT = _attribute("server.port", "Its port.")

    GEN_AI_OPERATION = _attribute("gen_ai.operation.name", "`chat` or `execute_tool`.")
    GEN_AI_PROVIDER = _attribute("gen_ai.provider.name", "The provider's row in the settings.")
    GEN_AI_REQUEST_MODEL = _attribute("gen_ai.request.model", "The model that was asked.")
    GEN_AI_REQUEST_STREAM = _attribute("gen_ai.request.stream", "Whether a stream was asked for: always true.")
    GEN_AI_REQUEST_MAX_TOKENS = _attribute("gen_ai.request.max_tokens", "The most tokens that may be generated.")
    GEN_AI_REQUEST_TEMPERATURE = _attribute("gen_ai.request.temperature", "The temperature that was asked for.")
    GEN_AI_CONVERSATION_ID = _attribute("gen_ai.conversation.id", "The session.")
    GEN_AI_RESPONSE_ID = _attribute("gen_ai.response.id", "The answer that is evaluated: its message.")
    GEN_AI_RESPONSE_MODEL = _attribute("gen_ai.response.model", "The model that answered, as the provider says.")
    GEN_AI_FINISH_REASONS = _attribute("gen_ai.response.finish_reasons", "Why the generation ended.")
    GEN_AI_TIME_TO_FIRST_CHUNK = _attribute("gen_ai.response.time_to_first_chunk", "Sent to first delta, in seconds.")
    GEN_AI_INPUT_TOKENS = _attribute("gen_ai.usage.input_tokens", "Tokens of the prompt.")
    GEN_AI_OUTPUT_TOKENS = _attribute("gen_ai.usage.output_tokens", "Tokens generated.")
    GEN_AI_TOOL_NAME = _attribute("gen_ai.tool.name", "The tool.")
    GEN_AI_TOOL_CALL_ID = _attribute("gen_ai.tool.call.id", "Forebay's id of the call.")
    GEN_AI_TOOL_TYPE = _attribute("gen_ai.tool.type", "`function`, or `extension` for a tool of an MCP server.")
    GEN_AI_EVALUATION_NAME = _attribute("gen_ai.evaluation.name", "The evaluator.")
    GEN_AI_EVALUATION_SCORE = _attribute("gen_ai.evaluation.score.value", "Its score, from 0 to 1, if it gave one.")
    GEN_AI_EVALUATION_LABEL = _attribute("gen_ai.evaluation.score.label", "`pass`, `fail` or `not_applicable`.")
    GEN_AI_DATA_SOURCE_ID = _attribute("gen_ai.data_source.id", "The index that was searched.")


ATTRIBUTES = MappingProxyType(_meanings)

EVALUATION_RESULT = "gen_ai.evaluation.result"
"""A moment on the span of an evaluation's step, by the conventions: what one evaluator says of one answer."""

SPANS = (
    SpanRow("{method} {route}", "server", "The request, from its headers to its last byte and the clean-up after it."),
    SpanRow("input.validation", "internal", "Size, syntax and fields of the body."),
    SpanRow("policy.check", "internal", "Authorisation: yields the scope of everything that follows."),
    SpanRow("context.load", "internal", "The session's history from the state database."),
    SpanRow("admission", "internal", "One wait for a place of one resource."),
    SpanRow("retrieval.query", "internal", "The search for evidence, within the scope."),
    SpanRow("suggestions", "client", "One question to the service of suggestions, beside the search."),
    SpanRow("rerank", "internal", "The evidence put in a better order."),
    SpanRow("model.stream", "internal", "What the model says in one round: every attempt and the fallback."),
    SpanRow("chat {model}", "client", "One attempt of one provider."),
    SpanRow("tool.call", "internal", "One tool call, the wait for its approval included."),
    SpanRow("stream.emit", "internal", "The events of a turn, from the first write to the last."),
    SpanRow("finalize", "internal", "The whole answer checked."),
    SpanRow("state.persist", "internal", "The answer committed: the moment of completion."),
    SpanRow("job.dispatch", "client", "A job handed over to Temporal, linked to the request that asked for it."),
    SpanRow("job {kind}", "internal", "A job as one process works on it, linked to the request that asked for it."),
    SpanRow("job.step", "internal", "One attempt of one step of a job."),
)
