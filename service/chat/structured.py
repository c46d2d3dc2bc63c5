"""Answers that follow a client's JSON Schema: kept until they are whole, checked, mended once, or not sent at all.

Called by respond.py; the doors ask `beyond_limits` before anything is spent on a schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.chat.steps import model_stream
from service.errors import ContentFiltered, InvalidAnswer, InvalidRequest
from service.ports import ChatMessage

if TYPE_CHECKING:
    from service.calls import Schemas
    from service.chat.attempts import Reply
    from service.chat.parts import Chosen
    from service.chat.turn import Turn
    from service.ports import ModelRequest
    from service.runtime.phase import phase

LONGEST_SCHEMA = 16_384  # bytes of JSON
DEEPEST_SCHEMA = 16
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
NOT_MET = "The model's answer does not meet the response_schema"
MEND = "{question}\n\nYour answer was not valid: {problem}. Answer again, with nothing but JSON that meets the schema."


def beyond_limits(schema: Mapping[str, Any]) -> str | None:
    """Return what of a schema is more than we take on: size, depth, a reference to elsewhere; None if nothing is."""
    if len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace")) > LONGEST_SCHEMA:
        return f"must be at most {LONGEST_SCHEMA} bytes of JSON"
    level: list[Any] = [schema]
    for _ in range(DEEPEST_SCHEMA):
        if any(_refers_elsewhere(value) for value in level):
            return "may refer to itself only, by references that begin with #"
        level = [inner for value in level for inner in _below(value)]
    return f"must be at most {DEEPEST_SCHEMA} levels deep" if level else None


def _below(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [one for one in inner if isinstance(one, Mapping | list)]


def _refers_elsewhere(value: Any) -> bool:
    targets = [value.get(name) for name in REFERENCES] if isinstance(value, Mapping) else []
    return any(isinstance(target, str) and not target.startswith("#") for target in targets)


async def check_schema(schemas: Schemas, schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema; raise InvalidRequest."""
    try:
        problem = await schemas.problem_of_schema(schema)
    except InvalidAnswer:
        problem = "cannot be checked"
    if problem is not None:
        raise InvalidRequest(f"response_schema: {problem}", field="response_schema")


async def generate_valid(
    turn: Turn, step: phase, chosen: Chosen, request: ModelRequest, tenant: str, schemas: Schemas, *, last: bool
) -> Reply:
    """Call the model; an answer that does not meet its schema is told to it once, within what is left of the budget.

    Unless this is the `last` round it may ask for tools instead: what it says beside that is no answer.

    Raises:
        InvalidAnswer: the second one is not valid either, or it cannot be checked within its limit.
        ContentFiltered: the provider withheld it.
    """
    reply = await model_stream.generate(turn, step, chosen, request, tenant)
    schema = request.response_schema
    if schema is None or (reply.tool_calls and not last):
        return reply
    problem = await _problem(step, schemas, schema, reply)
    if problem is not None:
        again = replace(request, messages=_mend(turn, request, reply, problem), attempt=reply.attempt + 1)
        reply = await model_stream.generate(turn, step, chosen, again, tenant)
        if await _problem(step, schemas, schema, reply) is not None:
            raise InvalidAnswer(NOT_MET)
    reply.tool_calls = []
    return reply


def _mend(turn: Turn, request: ModelRequest, reply: Reply, problem: str) -> tuple[ChatMessage, ...]:
    question = turn.ask.message if turn.ask is not None else ""
    wish = MEND.format(question=question, problem=problem)
    return (*request.messages, ChatMessage("assistant", reply.text), ChatMessage("user", wish))


async def _problem(step: phase, schemas: Schemas, schema: Mapping[str, Any], reply: Reply) -> str | None:
    if reply.finish_reason == "content_filter":
        raise ContentFiltered
    step.relax()  # the model is not slow while its answer is checked
    return await schemas.problem(schema, reply.text)


async def send_whole(turn: Turn, reply: Reply) -> None:
    """Send an answer that was kept until it was valid; raise InvalidAnswer if the model asked for tools to the last."""
    if reply.tool_calls:
        raise InvalidAnswer(NOT_MET)
    await turn.emit(reply.text)
    turn.text.append(reply.text)
