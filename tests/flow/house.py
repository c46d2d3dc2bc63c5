"""A whole service in virtual time: the real flow, policy, statements, search and scoring, without a thread or a socket.

`in_house(scenario)` runs `scenario(house)`; afterwards the invariants of the contract must hold. `house.chat(...)` is
one client's whole request, `house.connect(client)` one that goes on beside the test.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from service.api.chat import SseDoor
from service.api.turn_response import TurnResponse
from service.chat.admittance import Admittance
from service.chat.claims import unfounded_claim
from service.chat.flow import answer
from service.chat.parts import Gates, Habits, Parts
from service.chat.turn import Budgets
from service.equipment import facts_of, toolbox_of, tools_of
from service.errors import Unauthenticated
from service.jobs.evaluators import EVALUATORS
from service.policy.cedar import CedarPolicy
from service.ports import Principal
from service.providers.rows import ProviderRow
from service.providers.simulated import SimulatedModel
from service.retrieval import corpus
from service.retrieval.inline import InlineReranker, InlineRetriever
from service.routing import Routes, request_for
from service.runtime.counts import MemoryQuota
from service.runtime.gate import Gate
from service.runtime.quota import Rules
from service.runtime.schemas_inline import InlineSchemas
from service.settings import Settings
from service.settings_groups import JobSettings
from service.store.inline import Conditions, InlineDriver
from service.store.store import StateStore
from service.tools.registry import NAMES
from service.workforce import ALL_KINDS, Workforce
from telemetry import catalogue as rows
from telemetry.catalogue import LabelSets
from telemetry.testing import recording_observer
from tests.flow.client import Client
from tests.flow.parts import Slowly, Watched
from tests.virtual_loop import run, virtual_world

ROUTE = "/chat/stream"
ANN = Principal("demo", "ann", frozenset({"analyst", "developer"}), "k1")
BEN = Principal("demo", "ben", frozenset({"analyst"}), "k2")
EVE = Principal("rival", "eve", frozenset({"analyst"}), "k3")
NIL = Principal("demo", "nil", frozenset(), "k4")
KEYS = {f"Bearer {who.user}": who for who in (ANN, BEN, EVE, NIL)}

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


def _resources(rows, tools):
    return (*(f"model:{row.name}" for row in rows), *(f"tool:{name}" for name in tools))


class House:
    """A service with everything real in it that can be real without threads."""

    def __init__(
        self,
        seed=0,
        *,
        budgets=None,
        row=None,
        rows=None,
        queue=400,
        tenant_limit=200,
        rules=None,
        tools=(),
        settings=None,
        sample_ratio=0.0,
        **habits,
    ):
        self.world = virtual_world(seed)
        rows = rows or (ProviderRow("simulated", "simulated", ("sim",), **(row or {})),)
        names = (*NAMES, *(tool.spec.name for tool in tools))
        labels = LabelSets(
            models=tuple(dict.fromkeys(model for row in rows for model in row.models)),
            providers=tuple(row.name for row in rows),
            provider_models=tuple((row.name, model) for row in rows for model in row.models),
            resources=("requests", "retrieval", "rerank", "jobs", *_resources(rows, names)),
            tenants=("demo", "rival"),
            tools=names,
            kinds=tuple(ALL_KINDS),
            evaluators=tuple(one.name for one in EVALUATORS),
        )
        self.observer, self.recorder = recording_observer(label_sets=labels)
        self.conditions = Conditions()
        self.driver = InlineDriver(self.world.random, self.conditions)
        self.store = Slowly(StateStore(self.driver, self.world, self.observer))
        self.tools = tools_of(self.store) | {tool.spec.name: tool for tool in tools}
        self.toolbox = toolbox_of(self.tools, settings or Settings(), self.store, InlineSchemas(), self.observer)
        self.schemas = Slowly(InlineSchemas())
        self.policy = Slowly(CedarPolicy(tools=facts_of(self.tools.values())))
        self.retriever = Slowly(InlineRetriever())
        self.reranker = Slowly(InlineReranker())
        self.models = {row.name: Watched(SimulatedModel(row.name)) for row in rows}
        self.model = self.models[rows[0].name]
        self.gates = {
            "requests": self._gate("requests", 200, queue=queue, tenant_limit=tenant_limit, tenant_queue=200),
            "retrieval": self._gate("retrieval", 50),
            "rerank": self._gate("rerank", 4),
            **{f"model:{row.name}": self._gate(f"model:{row.name}", 100) for row in rows},
        }
        places = {row.name: self.gates[f"model:{row.name}"] for row in rows}
        self.gates["model"] = places[rows[0].name]
        self.routes = Routes(rows, rows[0].models[0], self.world, places, self.observer)
        for name, model in self.models.items():
            self.routes.add(name, model)
        self.gates |= {f"tool:{name}": one.gate for name, one in self.toolbox.equipped.items()}
        rules = rules or Rules()
        self.quota = MemoryQuota(rules, self.world.now)
        self.admittance = Admittance(self.gates["requests"], self.quota, rules.daily)
        self.workforce = Workforce(JobSettings(), self.store.jobs, self.observer, self.world, sample_ratio)
        self.gates["jobs"] = self.workforce.gate
        self.clients = []
        self.parts = self._parts(replace(BUDGETS, **(budgets or {})), Habits(**habits))

    def _gate(self, resource, limit, queue=1000, **more):
        return Gate(resource, limit, queue=queue, observer=self.observer, **more)

    def _parts(self, budgets, habits):
        return Parts(
            world=self.world,
            observer=self.observer,
            authenticate=self._authenticate,
            policy=self.policy,
            store=self.store,
            retriever=self.retriever,
            reranker=self.reranker,
            models=self.routes,
            gates=Gates(self.gates["requests"], self.gates["retrieval"], self.gates["rerank"]),
            habits=habits,
            budgets=budgets,
            instance_id="i1",
            assemble=request_for,
            toolbox=self.toolbox,
            schemas=self.schemas,
            checks=(unfounded_claim,),
            admit=self.admittance.admit,
            admit_job=self.admittance.admit_job,
            jobs=self.workforce.desk,
            sample=self.workforce.sampler.sample,
        )

    async def open(self):
        await self.store.beat("i1")
        await self.retriever.add_documents("demo", DOCUMENTS)
        return self

    def work(self):
        """Let this process work on jobs."""
        self.workforce.start(self.parts, self.retriever)

    async def close(self):
        await self.workforce.stop()
        await self.retriever.close()
        await self.store.close()

    async def _authenticate(self, header, address):
        if header not in KEYS:
            raise Unauthenticated
        return KEYS[header]

    # --- clients ------------------------------------------------------------------------------------------------

    def client(self, message="What is case C-1042 about?", *, model="sim", session="s1", ask=None, **more):
        """A client with a question, not yet connected. `ask` holds further fields of the body."""
        body = more.pop("body", {"session_id": session, "message": message, "model": model, **(ask or {})})
        return Client(body, **more)

    def connect(self, client, door=SseDoor, do=answer):
        """Start serving `client`; the task ends when the server is done with it."""
        self.clients.append(client)
        return asyncio.create_task(self._serve(client, door, do))

    async def _serve(self, client, door, do):
        with self.observer.span(f"POST {getattr(door, 'route', ROUTE)}", kind="server"):
            response = TurnResponse(self.parts, door, do)
            await response(client.scope, client.receive, client.send)

    async def chat(self, *args, **kwargs):
        """Serve one client to its end."""
        client = self.client(*args, **kwargs)
        await self.connect(client)
        return client

    @property
    def turn(self):
        """The one turn that is alive."""
        (turn,) = self.parts.live
        return turn

    @property
    def where(self):
        """The phase in which the one turn is; "" when there is none."""
        return self.turn.where if len(self.parts.live) == 1 else ""

    async def until(self, condition, *, step=0.001, within=60.0):
        """Wait until `condition()` holds, looking every `step` seconds."""
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(step)

    # --- what it knows of itself --------------------------------------------------------------------------------

    async def message(self, session="s1", who=ANN):
        """The last message of a session, as stored; None for none."""
        messages = await self.store.messages(who.tenant, who.user, session)
        return messages[-1] if messages else None

    def requests(self, outcome=""):
        """How many requests ended, with this outcome."""
        return self.recorder.value(rows.REQUESTS_TOTAL, "", outcome)

    def statuses(self):
        """Count the stored answers by their status."""
        return dict(self.driver._db.execute("SELECT status, count(*) FROM messages WHERE role='assistant' GROUP BY 1"))

    def assert_sums(self):
        """Invariant 1: at every moment."""
        seen = self.recorder
        in_flight = seen.value(rows.REQUESTS_IN_FLIGHT)
        assert seen.value(rows.REQUESTS_STARTED_TOTAL) == self.requests() + in_flight
        assert in_flight == len(self.parts.live)
        assert seen.value(rows.REJECTIONS_TOTAL) == self.requests("rejected")
        assert seen.value(rows.CANCELLATIONS_TOTAL) == self.requests("cancelled")
        bound = self.parts.habits.stream_queue
        assert all(len(turn.outbox) <= bound for turn in self.parts.live), "memory is bounded, whatever the reader does"

    def assert_at_rest(self):
        """Invariants 1, 2, 3 and 5 of the contract, with nothing in flight."""
        seen = self.recorder
        self.assert_sums()
        assert not seen.logged(rows.LOG_BUG), seen.logged(rows.LOG_BUG)
        assert len(self.parts.live) == 0
        for gate in self.gates.values():
            now = gate.statistics()
            assert (now.in_use, now.waiting, gate.audit()) == (0, 0, 0), f"{gate.resource}: every place is given back"
        for gauge in (rows.CONCURRENCY_IN_USE, rows.ADMISSION_QUEUE_DEPTH, rows.TENANT_CONCURRENCY_IN_USE):
            assert seen.value(gauge) == 0, gauge.name
        assert sum(model.open for model in self.models.values()) == 0, "every upstream stream is closed"
        seen.assert_no_open_span()
        statuses = self.statuses()
        assert statuses.get("streaming", 0) <= len(self.parts.unsettled), "every turn that began was settled"
        replayed = sum(line["replayed"] for line in seen.logged(rows.LOG_REQUEST))
        queued = sum(client.status == 202 for client in self.clients)
        elsewhere = seen.value(rows.JOBS_TOTAL, "chat", "completed")  # a turn that its job counts
        well = self.requests("completed") + self.requests("degraded")
        assert statuses.get("completed", 0) - elsewhere + replayed + queued == well
        for client in self.clients:
            client.assert_sound()


def in_house(scenario, *, seed=0, **house):
    """Run `scenario(house)` in virtual time; afterwards the service must be at rest. Returns what it returns."""

    it = House(seed, **house)

    async def live():
        await it.open()
        try:
            result = await scenario(it)
            it.assert_at_rest()
            return result
        finally:
            await it.close()

    return run(live(), seed=seed)
