"""A whole service in virtual time: the real flow, policy, statements, search and scoring, without a thread or a socket.

`with house() as it: …` is for the tests of behaviour: `it.chat(...)` is one client, which reads as it is told to.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace

from service.api.chat import SseDoor
from service.api.turn_response import TurnResponse
from service.chat.parts import Gates, Habits, Parts
from service.chat.turn import Budgets
from service.errors import Unauthenticated
from service.policy.cedar import CedarPolicy
from service.ports import Principal
from service.providers.rows import ProviderRow
from service.providers.simulated import SimulatedModel
from service.retrieval import corpus
from service.retrieval.inline import InlineReranker, InlineRetriever
from service.routing import Routes, request_for
from service.runtime.gate import Gate
from service.store.inline import Conditions, InlineDriver
from service.store.store import StateStore
from telemetry import catalogue as rows
from telemetry.catalogue import LabelSets
from telemetry.testing import recording_observer
from tests.virtual_loop import run, virtual_world

ANN = Principal("demo", "ann", frozenset({"analyst", "developer"}), "k1")
EVE = Principal("rival", "eve", frozenset({"analyst"}), "k2")
KEYS = {"Bearer ann": ANN, "Bearer eve": EVE}

DOCUMENTS = corpus.documents()

BUDGETS = Budgets(
    total=25.0,
    phases={
        "input.validation": 0.05,
        "policy.check": 0.15,
        "context.load": 0.3,
        "admission": 2.0,
        "retrieval.query": 1.5,
        "rerank": 0.3,
        "model.stream": 20.0,
        "tool.call": 5.0,
        "finalize": 0.5,
        "state.persist": 0.5,
        "stream.emit": 10.0,
    },
    first_token=3.0,
    token_gap=5.0,
    emit=10.0,
    persist=0.5,
)


@dataclass
class Client:
    """One client of `/chat/stream`, in ASGI's terms. It takes each write after `pause` seconds, and may leave."""

    body: dict | bytes
    key: str = "Bearer ann"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    stops_reading_after: int | None = None  # writes
    body_delay: float = 0.0
    status: int | None = None
    answer_headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    ended: bool = False
    aborted: bool = False
    writes: int = 0

    def __post_init__(self):
        self._left = asyncio.Event()
        self._sent_body = False

    def leave(self):
        """Close the connection."""
        self._left.set()

    @property
    def scope(self):
        headers = {"authorization": self.key, **self.headers}
        return {
            "type": "http",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "client": ("10.0.0.1", 1),
            "extensions": {"forebay.abort": self._abort},
        }

    def _abort(self):
        self.aborted = True
        self._left.set()

    async def receive(self):
        if not self._sent_body:
            if self.body_delay:
                await asyncio.wait([asyncio.ensure_future(self._left.wait())], timeout=self.body_delay)
                if self._left.is_set():
                    return {"type": "http.disconnect"}
            self._sent_body = True
            body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self._left.is_set():
            return  # as uvicorn does
        if self.stops_reading_after is not None and self.writes >= self.stops_reading_after:
            await self._left.wait()
            return
        if self.pause:
            await asyncio.sleep(self.pause)
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answer_headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        assert not self.ended, "something was sent after the end"
        self.writes += 1
        self.raw += message["body"]
        self.ended = not message["more_body"]

    @property
    def events(self):
        """What was streamed: (type, data), in order."""
        found = []
        for block in self.raw.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if lines:
                found.append((lines["event"], json.loads(lines["data"])))
        return found

    @property
    def types(self):
        """The events' types without repeating the deltas."""
        kinds = [kind for kind, _ in self.events]
        return [kind for i, kind in enumerate(kinds) if kind != "token_delta" or kinds[i - 1] != "token_delta"]

    @property
    def text(self):
        return "".join(data["text"] for kind, data in self.events if kind == "token_delta")

    @property
    def problem(self):
        return json.loads(self.raw)

    def event(self, kind):
        """The one event of this type."""
        (found,) = [data for this, data in self.events if this == kind]
        return found


class Slowly:
    """A part that takes its time first: `Slowly(part, 2.0)` waits two seconds before each of its coroutines."""

    def __init__(self, part, seconds=0.0, error=None):
        self._part, self.seconds, self.error = part, seconds, error

    def __getattr__(self, name):
        method = getattr(self._part, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def slowly(*args, **kwargs):
            if self.seconds:
                await asyncio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
            return await method(*args, **kwargs)

        return slowly


class House:
    """A service with everything real in it that can be real without threads."""

    def __init__(self, seed=0, **habits):
        self.world = virtual_world(seed)
        self.labels = LabelSets(
            models=("sim",),
            providers=("simulated",),
            provider_models=(("simulated", "sim"),),
            resources=("requests", "retrieval", "rerank", "model:simulated"),
            tenants=("demo", "rival"),
        )
        self.observer, self.recorder = recording_observer(label_sets=self.labels)
        self.conditions = Conditions()
        self.store = StateStore(InlineDriver(self.world.random, self.conditions), self.world, self.observer)
        self.policy = Slowly(CedarPolicy())
        self.retriever = Slowly(InlineRetriever())
        self.reranker = Slowly(InlineReranker())
        self.model = Watched(SimulatedModel("simulated"))
        self.budgets = BUDGETS
        self.habits = Habits(**habits)
        self.gates = {
            "requests": self._gate("requests", 200, queue=400, tenant_limit=200),
            "retrieval": self._gate("retrieval", 50),
            "rerank": self._gate("rerank", 4),
            "model": self._gate("model:simulated", 100),
        }
        row = ProviderRow("simulated", "simulated", ("sim",))
        self.routes = Routes((row,), "sim", self.world, {"simulated": self.gates["model"]})
        self.routes.add("simulated", self.model)
        self.parts = None

    def _gate(self, resource, limit, queue=1000, **more):
        return Gate(resource, limit, queue=queue, observer=self.observer, **more)

    async def open(self):
        await self.store.beat("i1")
        await self.retriever.add_documents("demo", DOCUMENTS)
        self.parts = Parts(
            world=self.world,
            observer=self.observer,
            authenticate=self._authenticate,
            policy=self.policy,
            store=self.store,
            retriever=self.retriever,
            reranker=self.reranker,
            models=self.routes,
            gates=Gates(self.gates["requests"], self.gates["retrieval"], self.gates["rerank"]),
            habits=self.habits,
            budgets=self.budgets,
            instance_id="i1",
            assemble=request_for,
            admit=lambda turn: None,
        )
        return self

    async def close(self):
        await self.retriever.close()
        await self.store.close()

    async def _authenticate(self, header, address):
        if header not in KEYS:
            raise Unauthenticated
        return KEYS[header]

    def client(self, message="What is case C-1042 about?", *, model="sim", session="s1", **more):
        """A client with a question, not yet connected. `ask` holds further fields of the body."""
        ask = more.pop("ask", {})
        body = more.pop("body", {"session_id": session, "message": message, "model": model, **ask})
        return Client(body, **more)

    def connect(self, client):
        """Start serving `client`; the task ends when the server is done with it."""
        return asyncio.create_task(self._serve(client))

    async def _serve(self, client):
        with self.observer.span("POST /chat/stream", kind="server"):
            response = TurnResponse(self.parts, SseDoor)
            await response(client.scope, client.receive, client.send)

    async def chat(self, *args, **kwargs):
        """Serve one client to its end."""
        client = self.client(*args, **kwargs)
        await self.connect(client)
        return client

    async def message(self, session="s1", principal=ANN):
        """The last message of a session, as stored."""
        messages = await self.store.messages(principal.tenant, principal.user, session)
        return messages[-1] if messages else None

    def assert_at_rest(self):
        """The invariants of the contract, section 5, with nothing in flight."""
        seen = self.recorder
        assert not seen.logged(rows.LOG_BUG), seen.logged(rows.LOG_BUG)
        for route in ("/chat/stream",):
            started = seen.value(rows.REQUESTS_STARTED_TOTAL, route)
            assert started == seen.value(rows.REQUESTS_TOTAL, route), "every request has exactly one outcome"
            assert seen.value(rows.REQUESTS_IN_FLIGHT, route) == 0
            rejected = seen.value(rows.REQUESTS_TOTAL, route, "rejected")
            assert seen.value(rows.REJECTIONS_TOTAL, route) == rejected
            cancelled = seen.value(rows.REQUESTS_TOTAL, route, "cancelled")
            assert seen.value(rows.CANCELLATIONS_TOTAL, route) == cancelled
        assert seen.value(rows.CONCURRENCY_IN_USE) == 0, "every place is given back"
        assert seen.value(rows.ADMISSION_QUEUE_DEPTH) == 0
        assert len(self.parts.live) == 0
        assert self.model.open == 0, "every upstream stream is closed"
        seen.assert_no_open_span()


class Watched:
    """A model of which we know how many streams are open, and that can be slow to say its first word."""

    def __init__(self, model):
        self._model = model
        self.name = model.name
        self.open = 0
        self.calls = []

    async def stream(self, request):
        self.open += 1
        self.calls.append(request)
        inner = self._model.stream(request)
        try:
            async for delta in inner:
                yield delta
        finally:
            await inner.aclose()
            self.open -= 1

    async def close(self):
        await self._model.close()


def in_house(scenario, *, seed=0, budgets=None, **habits):
    """Run `scenario(house)` in virtual time; afterwards the service must be at rest."""

    house = House(seed, **habits)
    if budgets:
        house.budgets = replace(house.budgets, **budgets)

    async def live():
        await house.open()
        try:
            result = await scenario(house)
            house.assert_at_rest()
            return result
        finally:
            await house.close()

    return run(live(), seed=seed)
