"""One chat turn, top to bottom. Each phase of the plan is one `with`; what a step does is in the file of its name.

Nothing in here knows how events reach the client, and nothing catches a cancellation: conduct.py owns how a turn ends.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from service.chat import degradation
from service.chat.door import identify
from service.chat.events import (
    ClientToolCalls,
    FoundDocument,
    MessageCompleted,
    MessageStart,
    RetrievalCompleted,
    TokenUsage,
    retold,
)
from service.chat.events import Warning as WarningEvent
from service.chat.plan import (
    CONTEXT_LOAD,
    FINALIZE,
    INPUT_VALIDATION,
    POLICY_CHECK,
    RERANK,
    RETRIEVAL_QUERY,
    RETRIEVAL_REQUIRED,
    STATE_PERSIST,
)
from service.chat.respond import respond
from service.chat.steps import finalize, model_stream, retrieval_query, state_persist
from service.chat.steps.finalize import Answer
from service.chat.structured import check_schema
from service.chat.submission import enqueue_turn
from service.errors import ForebayError, NoEvidence, PhaseTimeout
from service.runtime.admission import place
from service.runtime.phase import phase
from service.runtime.shelter import together
from telemetry.catalogue import Attr

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from service.chat.degradation import Degradation
    from service.chat.door import Door
    from service.chat.parts import Chosen, Parts
    from service.chat.turn import Ask, Turn
    from service.ports import Answered, Document, Message, Principal, Scope


async def answer(turn: Turn, use: Parts, door: Door) -> None:
    """Answer one request, from its bytes to its stored answer."""
    body = await door.body()
    with phase(turn, INPUT_VALIDATION):
        ask = turn.begin(door.parse(body), door.timeout())
        turn.once = door.once(body)
    who = await identify(turn, use, door)
    if ask.background:
        await enqueue_turn(turn, use, door, who, body)
        return
    await _remember(turn, use, who)
    wanted = turn.choose(use.models.choose(ask.model))
    chosen = await use.admit(turn, wanted)
    if turn.answered is None:
        model_stream.check(chosen)

    scope = await _authorise(turn, use, who)
    checks = () if ask.response_schema is None else (check_schema(use.schemas, ask.response_schema),)
    history, *_ = await together(_recall(turn, use, who, ask), *checks)
    async with place(turn, use.gates.requests, who.tenant, always=True, patience=use.habits.queue_wait):
        await _open(turn, use, who, ask, door)
        if turn.answered is not None:
            await _replay(turn, turn.answered)
            return
        if chosen is not wanted:
            words = f"Little is left of today's budget: {chosen.label} answers, from a cheaper provider"
            await turn.emit(WarningEvent(code="cheaper_route", message=words))
        history = [said for said in history if said.message_id not in (turn.message_id, turn.user_message_id)]
        documents = await _evidence(turn, use, who, scope, ask) if ask.retrieval else ()
        turn.answer = await _respond(turn, use, who, scope, chosen, ask, history, documents)
        with phase(turn, STATE_PERSIST, budget=turn.left_to_finalize()):
            await state_persist.complete(turn, use.store, turn.answer, use.world.now())


def completed(turn: Turn) -> MessageCompleted:
    """Return the event that ends a turn whose answer was committed."""
    assert turn.answer is not None  # noqa: S101  (types: it was committed)
    told = turn.answered
    used = (told.prompt_tokens, told.generated_tokens) if told else (turn.tokens.prompt, turn.tokens.generated)
    return MessageCompleted(
        message_id=turn.message_id,
        finish_reason=turn.answer.finish_reason,
        usage=TokenUsage(prompt_tokens=used[0], generated_tokens=used[1]),
        citations=turn.answer.citations,
        duration_ms=turn.elapsed_ms(),
    )


async def _authorise(turn: Turn, use: Parts, who: Principal) -> Scope:
    """Ask the policy what this principal may see and use: nothing is retrieved before it has answered."""
    with phase(turn, POLICY_CHECK):
        return await use.policy.scope(who)


async def _remember(turn: Turn, use: Parts, who: Principal) -> None:
    """See whether the key was used and its turn completed: a replay needs neither a model nor its tokens."""
    if turn.once is None:
        return
    with phase(turn, CONTEXT_LOAD):
        earlier = await use.store.completed_turn(who.tenant, who.user, turn.once)
    if earlier is not None:
        turn.begun_as(earlier)


async def _recall(turn: Turn, use: Parts, who: Principal, ask: Ask) -> Sequence[Message]:
    """Load what was said before in this session of this caller, unless the client brings its own prompt whole."""
    with phase(turn, CONTEXT_LOAD) as step:
        if ask.messages is not None:
            step.skip()
            return ()
        return await use.store.history(who.tenant, who.user, ask.session_id, use.habits.history)


async def _open(turn: Turn, use: Parts, who: Principal, ask: Ask, door: Door) -> None:
    """The turn is admitted: write that it has begun, unless it is a replay, and tell the client."""
    turn.admitted = True
    if turn.answered is None:
        with phase(turn, STATE_PERSIST):
            await state_persist.begin(turn, use.store, use.world.now())
    if turn.answered is not None:
        turn.mark_committed()
        door.say_replayed()
    model = turn.answered.model if turn.answered else turn.model
    await turn.emit(
        MessageStart(message_id=turn.message_id, session_id=ask.session_id, model=model, trace_id=turn.span.trace_id)
    )
    if turn.wants_phases and use.policy.allows(who, "phase:read"):
        await turn.reveal_phases()


async def _replay(turn: Turn, answered: Answered) -> None:
    """Tell an answer that was completed before: what was found and done, and its text. No model is called."""
    turn.answer = Answer(answered.text, answered.finish_reason, answered.citations)
    for event in retold(answered.text, answered.events):
        await turn.emit(event)


async def _evidence(turn: Turn, use: Parts, who: Principal, scope: Scope, ask: Ask) -> Sequence[Document]:
    """Retrieve and rerank. Where grounding is required, no evidence is an error; elsewhere it is a warning."""
    required = (ask.grounding or use.habits.grounding) == "required"
    documents: Sequence[Document] = ()
    suggested: Sequence[Document] | None = ()
    failing = nullcontext() if required else _optional(turn, degradation.RETRIEVAL)
    async with failing, place(turn, use.gates.retrieval, who.tenant):
        with phase(turn, RETRIEVAL_REQUIRED if required else RETRIEVAL_QUERY) as step:
            finding = retrieval_query.find(ask.message, who, scope, use.retriever, use.policy, use.habits.documents)
            if use.suggestions is None:
                documents = await finding
            else:
                suggesting = retrieval_query.suggest(
                    ask.message, who, scope, use.suggestions, use.policy, use.habits.suggestions
                )
                documents, suggested = await together(finding, suggesting)
            step.note(Attr.HITS, len(documents))
    if suggested is None:
        await turn.degrade(degradation.SUGGESTIONS, "suggestions are not available")
    if required and not documents:
        raise NoEvidence
    if not documents and degradation.RETRIEVAL.dependency not in turn.degradations:
        await turn.emit(WarningEvent(code="no_evidence", message="No document was found for this question"))
    if len(documents) > 1:
        async with _optional(turn, degradation.RERANK), place(turn, use.gates.rerank, who.tenant):
            with phase(turn, RERANK):
                documents = await use.reranker.rerank(ask.message, documents)
    else:
        with phase(turn, RERANK) as step:
            step.skip()
    await turn.emit(
        RetrievalCompleted(
            count=len(documents),
            documents=_told(documents),
            degraded=bool(turn.degradations),
            suggestions=_told(suggested or ()),
        )
    )
    return documents


def _told(documents: Sequence[Document]) -> tuple[FoundDocument, ...]:
    return tuple(FoundDocument(id=one.id, title=one.title, score=round(one.score, 4)) for one in documents)


async def _respond(
    turn: Turn,
    use: Parts,
    who: Principal,
    scope: Scope,
    chosen: Chosen,
    ask: Ask,
    history: Sequence[Message],
    documents: Sequence[Document],
) -> Answer:
    """Let the model answer, with its tools, and check what it said."""
    request = use.assemble(chosen, ask, history, documents, turn.message_id)
    reply = await respond(turn, use, who, scope, chosen, ask, request)
    if reply.tool_calls:  # the client's own tools, for the client to call
        await turn.emit(ClientToolCalls(calls=tuple(reply.tool_calls)))
    with phase(turn, FINALIZE, budget=turn.left_to_finalize()):
        grounded = ask.retrieval and (ask.grounding or use.habits.grounding) == "required"
        checks = use.checks if ask.messages is None else ()  # a prompt of the client's own is the client's own affair
        return finalize.check(reply, documents, grounded=grounded, checks=checks, acted=turn.acted)


@asynccontextmanager
async def _optional(turn: Turn, row: Degradation) -> AsyncIterator[None]:
    """Go on without a dependency when the block fails or runs over its own budget, and say so."""
    try:
        yield
    except PhaseTimeout as timeout:
        if timeout.limit != "phase":
            raise  # the whole request is over, not this part of it
        await turn.degrade(row, f"{row.dependency} took too long")
    except ForebayError:
        await turn.degrade(row, f"{row.dependency} is not available")
