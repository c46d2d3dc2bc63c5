"""What jobs ask of the chat: a whole turn without a client, and a single answer of a model. Made by service/app.py.

The kind of job `chat` is here too. A turn of a job is begun under the job's own key: whoever takes over after a crash
goes on with the same message, and one that was completed is only told.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from service.chat.account import SideAccount
from service.chat.body import ChatBody
from service.chat.conduct import conduct, new_turn
from service.chat.events import MessageCompleted, MessageStart, ToolCallCompleted, found_in
from service.chat.plan import MODEL_STREAM
from service.chat.steps import finalize, model_stream
from service.chat.steps.input_validation import parse
from service.chat.submission import CHAT
from service.chat.turn import Ask
from service.errors import NotFound
from service.jobs.kind import Job, Kind, Step, StepUse
from service.jobs.means import Completion, Finished
from service.ports import Once
from service.runtime.outbox import Outbox
from service.runtime.phase import phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.chat.events import Sent
    from service.chat.parts import Parts
    from service.errors import ForebayError
    from service.ports import Document, Principal
    from service.work import JobStore

ROUTE = "/jobs"
JOB_KEYS = "job"  # in the place of a route: a client's keys are others


class Listener:
    """The door of a turn that nobody listens to but its job: a body in, the end of the turn kept."""

    route = ROUTE
    authorization = None
    address = ""
    wants_phases = False

    def __init__(self, body: bytes, key: str) -> None:
        self._body = body
        self.headers_at = asyncio.get_running_loop().time()
        self._once = Once(JOB_KEYS, key, hashlib.sha256(body).hexdigest())
        self._text: list[str] = []
        self.told: dict[str, Any] = {"tool_calls": []}

    async def body(self) -> bytes:
        """Return the whole body."""
        return self._body

    def parse(self, body: bytes) -> Ask:
        """Return what is asked for; raise InvalidRequest."""
        return parse(body, ChatBody).ask()

    def timeout(self) -> float | None:
        """Return no limit: there is no client."""
        return None

    def once(self, body: bytes) -> Once | None:
        """Return the job's key."""
        del body
        return self._once

    def announce(self, headers: Mapping[str, str]) -> None:
        """Tell nobody."""

    def say_replayed(self) -> None:
        """Tell nobody."""

    async def left(self) -> None:
        """Wait to be cancelled: nobody leaves."""
        await asyncio.get_running_loop().create_future()

    async def write(self, events: Sequence[Sent], *, last: bool) -> None:
        """Keep what the job's result is made of."""
        del last
        for event in events:
            match event:
                case str():
                    self._text.append(event)
                case ToolCallCompleted():
                    self.told["tool_calls"].append(event.model_dump(mode="json"))
                case MessageStart():
                    self.told["session_id"] = event.session_id
                case MessageCompleted():
                    self.told |= {**event.model_dump(mode="json"), "text": "".join(self._text)}

    def write_now(self, events: Sequence[Sent]) -> bool:
        """Leave it to `write`."""
        del events
        return False

    async def refuse(self, error: ForebayError, trace_id: str) -> None:
        """Tell nobody: the turn keeps its error."""

    def abort(self) -> None:
        """Free nothing: there is no socket."""


class Silent(Outbox[Any]):
    """Takes events and keeps none: of a single answer only the text counts."""

    def put_all(self, more: Sequence[Any]) -> bool:
        """Throw `more` away."""
        del more
        return True


class Background:
    """Implements `means.Converse`, `means.Complete` and `means.Recall` over the parts of a turn and the jobs' store."""

    def __init__(self, use: Parts, store: JobStore) -> None:
        self._use, self._store = use, store

    async def converse(self, principal: Principal, body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """Run one turn to its end; return what was said. The same `key` never answers twice.

        Raises:
            ForebayError: what ended the turn.
        """
        listener = Listener(msgspec.json.encode(body), key)
        use = self._use.acting_for(principal)
        turn = new_turn(use, listener, use.observer.current())
        books = SideAccount(turn)
        await conduct(turn, use, listener, account=lambda _: books)
        if books.error is not None:
            raise books.error
        return listener.told

    async def complete(
        self, principal: Principal, model: str, question: str, documents: Sequence[Document]
    ) -> Completion:
        """Ask a model once; return its whole answer.

        Raises:
            ForebayError: there is no place, no quota, no answer.
        """
        use = self._use
        listener = Listener(b"", "")
        turn = new_turn(use, listener, use.observer.current())
        turn.outbox, turn.principal = Silent(1), principal
        turn.ask = Ask(session_id="", message=question, streamed=False)
        account = SideAccount(turn)
        try:
            chosen = turn.choose(use.models.choose(model))
            chosen = await use.admit(turn, chosen)
            model_stream.check(chosen)
            request = use.assemble(chosen, turn.ask, (), documents, turn.message_id)
            with phase(turn, MODEL_STREAM, budget=chosen.budgets.get("generation")) as step:
                reply = await model_stream.generate(turn, step, chosen, request, principal.tenant)
            answer = finalize.check(reply, documents, grounded=False)
            turn.committed = True
        finally:
            turn.settle()
            account.close()
        return Completion(answer.text, answer.citations)

    async def recall(self, principal: Principal, message_id: str) -> Finished:
        """Read a completed turn of this user; raise NotFound."""
        turn = await self._store.finished_turn(principal.tenant, principal.user, message_id)
        if turn is None:
            raise NotFound
        return Finished(turn.question, turn.answer, found_in(turn.events), turn.results)


async def converse(job: Job, given: ChatBody) -> Any:
    """Answer: one step, since a turn keeps its own checkpoints."""
    return await job.step(ANSWER, given.model_dump(exclude={"background"}), share=1.0)


async def _answer(use: StepUse, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return await use.means.converse(use.principal, body, use.key)


ANSWER = Step("answer", _answer, budget=570.0)  # a turn's 25 s, and the approvals that it waits for

CHAT_KIND = Kind(CHAT, ChatBody, converse, total=900.0, concurrency=16)
