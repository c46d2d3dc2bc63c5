"""The simulated model: what demos, game days and tests run on. It takes its time and fails exactly as its id says.

A model like any other to its callers. What it says: simulated_text; what its id means: simulated_parameters.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from service.errors import ProviderFailure
from service.ports import Delta, Deltas, Finish, ModelRequest, ToolCallDelta, Usage
from service.providers import simulated_text as prose
from service.providers.failures import from_status, malformed
from service.providers.prompt import estimate_tokens, question_of, wanted_schema
from service.providers.simulated_parameters import SimParameters, parse
from service.providers.simulated_schema import instance

# Without pauses tokens come as a read of a fast provider brings them: many at once, and then the loop is let go of. At
# about 5 µs a token with all that its reader does, 64 of them hold it for a third of a millisecond.
_TOKENS_AT_ONCE = 64
_SILENCE_SECONDS = 600.0  # longer than any budget, and not for ever
_JSON_CHARACTERS = 4  # of a structured answer in one token
_LONGEST_READ = 32_000  # characters of a question, as in `/chat/stream`: its terms are looked for on the event loop
_OPENING_SENTENCES = 2  # said before a tool is asked for


class _Script(NamedTuple):
    """One call's part of an answer: where its first token stands in the whole, its tokens, how it ends."""

    first: int
    tokens: Iterator[str]
    ending: tuple[Delta, ...]


class SimulatedModel:
    """A provider's row that asks nobody."""

    ready = True

    def __init__(self, name: str) -> None:
        """Take the row's name."""
        self.name = name

    async def close(self) -> None:
        """Free nothing: nothing is held."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Deltas, None]:
        """Yield the deltas that the parameters in `request.model` ask for.

        Raises:
            InvalidRequest: A parameter is wrong.
            ProviderFailure: A parameter asks for it.
        """
        sim = parse(request.model)
        await asyncio.sleep(sim.ttft)
        if request.round == 0 and request.attempt <= sim.fail_times:
            raise _failure(sim)
        script = _script(sim, request)
        said = 0
        for tokens in _runs(sim, script):
            if said:
                await asyncio.sleep(sim.interval)
            await _trouble(sim, script.first + said)
            yield tokens
            said += len(tokens)
        await _trouble(sim, script.first + said)
        asked = sum(estimate_tokens(message.content) for message in request.messages)
        yield (*script.ending, Usage(asked, said))


def _runs(sim: SimParameters, script: _Script) -> Iterator[tuple[str, ...]]:
    """Yield the tokens that are said at once: one where there are pauses, else many, up to where trouble begins."""
    most, position = 1 if sim.interval else _TOKENS_AT_ONCE, script.first
    troubles = [at for at in (sim.stall_at, sim.garbage_at, sim.fail_at) if at is not None]
    while run := tuple(islice(script.tokens, min([most, *(at - position for at in troubles if at > position)]))):
        yield run
        position += len(run)


async def _trouble(sim: SimParameters, position: int) -> None:
    if position == sim.stall_at:
        await asyncio.sleep(_SILENCE_SECONDS)
        raise ProviderFailure("timeout", retry_safe=True)
    if position == sim.garbage_at:
        raise malformed()
    if position == sim.fail_at:
        raise _failure(sim)


def _failure(sim: SimParameters) -> ProviderFailure:
    return from_status(sim.status, code="simulated", request_id=f"sim-{sim.seed}")


def _script(sim: SimParameters, request: ModelRequest) -> _Script:
    asked = next((question_of(m.content) for m in reversed(request.messages) if m.role == "user"), "")
    question = asked[:_LONGEST_READ]
    calls = bool(sim.tool) and request.round == 0
    ending = (_tool_call(sim.tool, request, question), Finish("tool_calls")) if calls else (Finish("stop"),)
    if (schema := wanted_schema(request)) is not None:
        return _Script(0, iter(()) if calls else _structured(sim, request, schema, question), ending)
    chance = prose.generator(question, request.documents, sim.seed)
    parts, first, length = _part(sim, request, prose.sentences(question, request.documents, chance))
    limit = request.max_output_tokens
    if limit is not None and limit < length:
        length, ending = limit, (Finish("length"),)
    return _Script(first, islice(prose.endless(parts, chance), length), ending)


def _part(sim: SimParameters, request: ModelRequest, whole: list[str]) -> tuple[list[str], int, int]:
    """Return this call's sentences, where its first token stands in the whole answer, and how many tokens it has.

    With a tool, the opening is said before it is asked for, the rest after its result is there.
    """
    if not sim.tool:
        return whole, 0, len(prose.words(whole)) if sim.tokens is None else sim.tokens
    opening, rest = whole[:_OPENING_SENTENCES], whole[_OPENING_SENTENCES:]
    before = len(prose.words(opening)) if sim.tokens is None else sim.tokens // 2
    if request.round == 0:
        return opening, 0, before
    rest = [prose.tool_sentence(request.messages), *rest]
    return rest, before, len(prose.words(rest)) if sim.tokens is None else sim.tokens - before


def _structured(sim: SimParameters, request: ModelRequest, schema: Mapping[str, Any], question: str) -> Iterator[str]:
    """Return the tokens of an instance of the schema, or, for the first so many that arrive, of what is no JSON."""
    texts = prose.facts(question, request.documents) or [f"About: {question}"]
    text = json.dumps(instance(schema, question, texts), ensure_ascii=False)
    if request.attempt - sim.fail_times <= sim.invalid_answers:
        text = f"The answer is {text}"
    return (text[start : start + _JSON_CHARACTERS] for start in range(0, len(text), _JSON_CHARACTERS))


def _tool_call(name: str, request: ModelRequest, question: str) -> ToolCallDelta:
    """Return the call of a tool, with arguments from the message: as its schema wants them, if it is on offer."""
    schema = next((tool.parameters for tool in request.tools if tool.name == name), {"type": "object"})
    arguments = instance(schema, question, [question or "-"], optional=False)
    return ToolCallDelta(0, f"call_{name}", name, json.dumps(arguments, ensure_ascii=False))
