"""The table of a turn's phases: what each may take, and what happens at its budget (contract, section 3).

flow.py goes through them in this order; a test holds the phases of a run against this table.
"""

from __future__ import annotations

from service.runtime.admission import ADMISSION
from service.runtime.phase import Phase

#                         span name             at its budget
INPUT_VALIDATION = Phase("input.validation")  # fail closed
POLICY_CHECK = Phase("policy.check")  # fail closed, always
CONTEXT_LOAD = Phase("context.load")  # fail closed; after policy.check

RETRIEVAL_QUERY = Phase("retrieval.query", optional=True)  # by `grounding`: open when preferred, closed when required
RETRIEVAL_REQUIRED = Phase("retrieval.query")  # no evidence, no answer
RERANK = Phase("rerank", optional=True)  # fail open: first-stage order, with a warning
MODEL_STREAM = Phase("model.stream", total_label="model.total")  # error; limits: first token, gap, generation
TOOL_CALL = Phase("tool.call")  # per tool; side effects fail closed
FINALIZE = Phase("finalize")  # error
STATE_PERSIST = Phase("state.persist")  # error
SETTLE = Phase("state.persist", own_clock=True, aside=True)  # how a turn ended that did not complete: a fresh budget
STREAM_EMIT = Phase("stream.emit", own_clock=True, aside=True)  # drop the reader that takes no write

# Inner limits of model.stream, and where in it a turn is: a disconnect is counted under FIRST_TOKEN or TOKENS.
FIRST_TOKEN, TOKEN_GAP, TOKENS = "model.first_token", "model.gap", "model.tokens"

_PARTS_OF_MODEL = frozenset({FIRST_TOKEN, TOKEN_GAP, TOKENS, MODEL_STREAM.whole})

PLAN = (
    INPUT_VALIDATION, POLICY_CHECK, CONTEXT_LOAD, ADMISSION, RETRIEVAL_QUERY, RERANK, MODEL_STREAM, TOOL_CALL, FINALIZE,
    STATE_PERSIST, STREAM_EMIT,
)  # fmt: skip


def phase_of(where: str) -> str:
    """Return the phase that `where` is, or is a part of: two metrics alone tell the parts of model.stream apart."""
    return MODEL_STREAM.name if where in _PARTS_OF_MODEL else where
