"""evaluation: a finished turn, judged by every evaluator. Asked for by sampling.py, or by the turn's own user.

Texts are read for each step and kept in none: a checkpoint holds a score. They are the passages as they are now, with
the rights that the user has now; what cannot be read any more is told to the evaluators as such.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from service.jobs.evaluators import EVALUATORS
from service.jobs.evaluators.evaluator import Exchange
from service.jobs.kind import Job, Kind, Step, StepUse
from telemetry.catalogue import EVALUATION_RESULT, EVALUATION_SCORE, EVALUATIONS_TOTAL, Attr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.jobs.evaluators.evaluator import Evaluator, Score

NAME = "evaluation"


class EvaluationInput(BaseModel):
    """What a client sends: which answer of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    message_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]


async def evaluate(job: Job, given: EvaluationInput) -> dict[str, Any]:
    """Ask one evaluator after another."""
    scores = [await job.step(step, given.message_id, share=1 / len(STEPS)) for step in STEPS]
    return {"message_id": given.message_id, "scores": scores}


async def _judge(evaluator: Evaluator, use: StepUse, message_id: str) -> dict[str, Any]:
    score = evaluator.judge(await _read(use, message_id))
    _tell(use, evaluator.name, score, message_id)
    return {"evaluator": evaluator.name, "score": score.value, "label": score.label}


async def _read(use: StepUse, message_id: str) -> Exchange:
    """Return the turn, with its passages in the order of the prompt; raise NotFound or RetrievalFailed."""
    turn = await use.means.recall(use.principal, message_id)
    passages = None if turn.given is None else await _passages(use, turn.given)
    return Exchange(turn.question, turn.answer, passages, turn.results)


async def _passages(use: StepUse, ids: Sequence[str]) -> tuple[str | None, ...]:
    who, policy = use.principal, use.means.policy
    found = await use.means.index.fetch(ids, await policy.scope(who)) if ids else ()
    texts = {document.id: document.text for document in found if policy.may_read(who, document)}
    return tuple(texts.get(one) for one in ids)


def _tell(use: StepUse, name: str, score: Score, message_id: str) -> None:
    """Count the judgement and put it on the step's span, as the GenAI conventions say: no text is in it."""
    seen = use.means.observer
    seen.inc(EVALUATIONS_TOTAL, name, score.label)
    said: dict[str, str | float] = {
        Attr.GEN_AI_EVALUATION_NAME: name,
        Attr.GEN_AI_EVALUATION_LABEL: score.label,
        Attr.GEN_AI_RESPONSE_ID: message_id,
    }
    if score.value is not None:
        seen.record(EVALUATION_SCORE, score.value, name)
        said[Attr.GEN_AI_EVALUATION_SCORE] = score.value
    seen.current().event(EVALUATION_RESULT, **said)


STEPS = tuple(Step(evaluator.name, partial(_judge, evaluator), budget=10.0) for evaluator in EVALUATORS)

EVALUATION = Kind(NAME, EvaluationInput, evaluate, total=300.0, concurrency=2)
