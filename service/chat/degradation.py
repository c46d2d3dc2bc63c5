"""What the failure of a dependency does to an answer, in one table. The flow and the providers' fallback read it.

A row that an answer may do without has a warning, and counts in `degradations_total`; the others end the turn. Each row
has a test that breaks the dependency for real (tests/http/test_degradation.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Degradation:
    """A dependency, what its failure does, and whether an answer may do without it.

    `dependency` is its label in `degradations_total`; `warning` the code that a client is told, "" if the answer is as
    good as ever, or if there is none.
    """

    dependency: str
    effect: str
    may: bool
    warning: str = ""


def _may(dependency: str, effect: str, warning: str = "") -> Degradation:
    return Degradation(dependency, effect, may=True, warning=warning)


def _never(dependency: str, effect: str) -> Degradation:
    return Degradation(dependency, effect, may=False)


RETRIEVAL = _may("retrieval", "an answer without evidence; none where grounding is required", "retrieval_degraded")
SUGGESTIONS = _may("suggestions", "an answer without suggestions", "suggestions_skipped")
RERANK = _may("rerank", "the documents in the order in which they were found", "rerank_skipped")
MODEL = _may("model", "the answer of its approved fallback; none without one", "model_fallback")
TOOL = _may("tool", "the model is told, and answers with what it has; a side effect is never guessed at")
LIMITS = _may("limits", "each process keeps to its own part of the limits")
TELEMETRY = _may("telemetry", "spans are dropped and counted")
CITATIONS = _never("citations", "where grounding is required: no answer without one")
POLICY = _never("policy", "nothing is read, called or answered")
STATE = _never("state", "no answer: what is not written down was not said")

TABLE = (RETRIEVAL, SUGGESTIONS, RERANK, MODEL, TOOL, LIMITS, TELEMETRY, CITATIONS, POLICY, STATE)
