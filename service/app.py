"""The composition root: everything that one process runs is built here, opened in order, and closed in reverse.

`application` is what the server runs. Settings come in, an ASGI application goes out; nothing else reads settings.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from service.api.build import build_api, count_cut, count_refused, endpoints
from service.api.edges import trusts_services
from service.auth import Keys
from service.chat.admittance import Admittance
from service.chat.claims import unfounded_claim
from service.chat.parts import Gates, Parts
from service.equipment import ToolServers, address_of, policy_of, toolbox_of, tools_of
from service.errors import Cause
from service.limits import RERANK_WORKERS, Limits
from service.providers import local
from service.readiness import Readiness
from service.retrieval import corpus
from service.retrieval.fts import FtsRetriever
from service.retrieval.rerank import ProcessReranker
from service.routing import Routes, key_of, request_for, row_of
from service.runtime.schemas import ProcessSchemas
from service.runtime.shell import Shell
from service.runtime.world import real_world
from service.server.run import Application
from service.store import BEAT_EVERY, StateStore, open_store
from service.store.tenants import tenants_of
from service.translate import (
    api_options,
    budgets_of,
    habits_of,
    redis_url_of,
    show_budgets,
    suggestions_of,
    telemetry_options,
)
from service.upkeep import Upkeep
from service.workforce import Workforce
from telemetry import catalogue as rows
from telemetry.loop import LoopLag, Watchdog
from telemetry.setup import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp
    from uvicorn._types import ASGI3Application

    from service.chat.toolbox import Toolbox
    from service.retrieval.suggestions import SuggestionService
    from service.settings import Settings
    from telemetry.observe import Observer

CLEANUP_SECONDS = 4.0
TOO_LARGE, TOO_SLOW = (413, 431), 408


def application(
    settings: Settings, environ: Mapping[str, str], demo_key: str | None, processes: int = 1
) -> Application:
    """Return what the server runs, not yet open, in one of `processes`."""
    service = Service(settings, environ, demo_key, processes)
    asgi = cast("ASGI3Application", Shell(service))  # uvicorn and Starlette each have types of their own for ASGI
    return Application(asgi=asgi, drain=service.drain, on_refused=service.note_refusal, on_cut=service.note_cut)


class Service:
    """One process of Forebay."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], demo_key: str | None, processes: int) -> None:
        self._settings, self._demo_key, self._processes = settings, demo_key, processes
        self._world = real_world()
        self._closing = AsyncExitStack()
        given = [row for row in settings.providers if row.kind != "local" or local.available() is None]
        self._rows = tuple(row_of(row) for row in given)
        self._provider_keys = {row.name: key_of(row, environ) for row in given}
        self._default = settings.default_model or self._rows[0].models[0]
        self._budgets = budgets_of(settings.budgets)
        self._redis_url = redis_url_of(settings.limits, environ)
        self._options = api_options(settings, environ)
        self._suggestions = suggestions_of(settings, environ)
        self._tool_servers = [(row, address_of(row, environ)) for row in settings.mcp]
        self._parts: Parts | None = None
        self._admittance: Admittance | None = None
        self._jobs: Workforce | None = None
        self._servers: ToolServers | None = None

    async def open(self) -> ASGIApp:
        """Open everything, in order, and return the application. What was opened is closed by `close`."""
        settings, closing = self._settings, self._closing
        tenants = await asyncio.to_thread(self._tenants)
        options = telemetry_options(settings, self._rows, self._budgets, tenants)
        telemetry = await asyncio.to_thread(Telemetry, options)
        closing.push_async_callback(asyncio.to_thread, telemetry.close)
        observer = telemetry.observer
        closing.callback(observer.log, rows.LOG_STOPPED)
        self._watch_the_loop(observer)

        store = await open_store(settings.database_url, self._world, observer)
        closing.push_async_callback(store.close)
        retriever = FtsRetriever(settings.data_folder / "index.db")
        await retriever.open()
        closing.push_async_callback(retriever.close)
        reranker = ProcessReranker(workers=RERANK_WORKERS)
        await reranker.warm()
        closing.push_async_callback(reranker.close)
        toolbox = await self._open_toolbox(store, observer)
        if self._demo_key is not None:
            await store.put_demo_key(self._demo_key)
            await retriever.add_documents(corpus.TENANT, await asyncio.to_thread(corpus.documents))

        limits = await self._open_limits(toolbox, observer)
        models = self._open_models(limits, observer)
        keys = Keys(store.authenticate)
        jobs = self._jobs = Workforce(
            settings.jobs, store.jobs, observer, self._world, settings.evaluation.sample_ratio
        )
        parts = self._parts = self._build_parts(
            observer, store, retriever, reranker, models, limits, keys, toolbox, jobs,
            await self._open_schemas(workers=2), await self._open_suggestions(observer),
        )  # fmt: skip
        places = (*limits.gates.values(), jobs.gate, *(one.gate for one in toolbox.equipped.values()))
        upkeep = Upkeep(parts, store, places, BEAT_EVERY)
        await store.beat(parts.instance_id)
        await store.interrupt_orphans(self._world.now())
        closing.push_async_callback(store.leave, parts.instance_id)
        upkeep.start()
        closing.push_async_callback(upkeep.stop)
        jobs.start(parts, retriever)
        closing.push_async_callback(jobs.stop)
        show_budgets(self._budgets, self._rows, observer)
        observer.set(rows.BUILD_INFO, 1, version("forebay"))
        observer.log(rows.LOG_STARTED, version=version("forebay"), environment=settings.environment)
        trusts = trusts_services(keys) if settings.environment == "production" else None
        readiness = self._readiness(store, models, telemetry, limits)
        return build_api(parts, store, jobs.desk, jobs.followers, telemetry, readiness, self._options, trusts=trusts)

    async def _open_toolbox(self, store: StateStore, observer: Observer) -> Toolbox:
        schemas = await self._open_schemas(workers=1)
        servers = self._servers = ToolServers(self._tool_servers, self._world, observer)
        tools = {**await asyncio.to_thread(tools_of, store), **servers.tools}
        toolbox = toolbox_of(tools, self._settings, store, schemas, observer)
        servers.start(toolbox)
        self._closing.push_async_callback(servers.stop)
        return toolbox

    async def _open_schemas(self, workers: int) -> ProcessSchemas:
        schemas = ProcessSchemas(workers=workers)
        self._closing.push_async_callback(schemas.close)
        await schemas.warm()
        return schemas

    async def _open_suggestions(self, observer: Observer) -> SuggestionService | None:
        if self._suggestions is None:
            return None
        suggestions = self._suggestions(observer)
        await suggestions.open()
        self._closing.push_async_callback(suggestions.close)
        return suggestions

    def _open_models(self, limits: Limits, observer: Observer) -> Routes:
        gates = {row.name: limits.gates[f"model:{row.name}"] for row in self._rows}
        models = Routes(self._rows, self._default, self._world, gates, observer)
        models.open(self._provider_keys)
        self._closing.push_async_callback(models.close)
        return models

    async def close(self) -> None:
        """Close what was opened, the last one first."""
        await self._closing.aclose()

    async def drain(self, seconds: float) -> None:
        """Refuse what is new, let open streams end within `seconds`, then end each with its terminal event."""
        if self._parts is None or self._admittance is None or self._jobs is None:
            return
        self._admittance.drain(seconds)
        live, observer = self._parts.live, self._parts.observer
        observer.log(rows.LOG_STOPPING, open_streams=len(live), seconds=seconds)
        left, _ = await asyncio.gather(live.drain(seconds, Cause.SHUTDOWN, CLEANUP_SECONDS), self._jobs.drain(seconds))
        if left:
            observer.log(rows.LOG_CLEANUP_OVERRUN, what="drain", open_streams=left, seconds=CLEANUP_SECONDS)

    def note_refusal(self, method: str, path: str, status: int) -> str:
        """Count a request that the server refused before the application saw it; return an id, as it has no trace."""
        request_id = f"{self._world.random.getrandbits(128):032x}"
        if self._parts is None:
            return request_id
        counted = path.partition("?")[0]
        known = (counted, method) in endpoints()
        observer = self._parts.observer
        observer.inc(rows.HTTP_RESPONSES_TOTAL, *((counted, method) if known else ("other", "other")), str(status))
        reason = "too_large" if status in TOO_LARGE else "timeout" if status == TOO_SLOW else "invalid"
        count_refused(observer, method, counted, reason)
        return request_id

    def note_cut(self, method: str, path: str, cause: Cause) -> None:
        """Count a request that was cut off before all of it had come."""
        if self._parts is not None:
            count_cut(self._parts.observer, method, path, cause)

    def _watch_the_loop(self, observer: Observer) -> None:
        """Measure how late the loop is, say what nobody retrieved, and in development what blocks."""

        def unretrieved(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            observer.log(rows.LOG_BUG, what=context["message"], exc_info=context.get("exception"))

        asyncio.get_running_loop().set_exception_handler(unretrieved)
        self._closing.callback(LoopLag(observer).stop)
        if self._settings.environment == "development":
            self._closing.callback(Watchdog(observer).stop)

    # --- building ----------------------------------------------------------------------------------------------------

    def _tenants(self) -> tuple[str, ...]:
        """Return the tenants of the state database, which `before_start` has brought up to date for all. Blocks."""
        named = tenants_of(self._settings.database_url)
        return tuple(dict.fromkeys((*named, *([corpus.TENANT] if self._demo_key is not None else []))))

    async def _open_limits(self, toolbox: Toolbox, observer: Observer) -> Limits:
        limits = Limits(
            self._settings.limits,
            self._rows,
            processes=self._processes,
            redis_url=self._redis_url,
            world=self._world,
            observer=observer,
        )
        self._closing.push_async_callback(limits.close)
        limits.share(one.gate for one in toolbox.equipped.values())
        await limits.open()
        return limits

    def _build_parts(
        self,
        observer: Observer,
        store: StateStore,
        retriever: FtsRetriever,
        reranker: ProcessReranker,
        models: Routes,
        limits: Limits,
        keys: Keys,
        toolbox: Toolbox,
        jobs: Workforce,
        schemas: ProcessSchemas,
        suggestions: SuggestionService | None,
    ) -> Parts:
        settings = self._settings
        gates, queue_wait = limits.gates, settings.limits.queue_wait_ms / 1e3
        self._admittance = Admittance(
            gates["requests"],
            limits.quota,
            limits.rules.daily,
            patience=queue_wait,
            inner_patience=self._budgets.phases["admission"],
        )
        return Parts(
            world=self._world,
            observer=observer,
            authenticate=keys.authenticate,
            policy=policy_of(settings, toolbox),
            store=store,
            retriever=retriever,
            reranker=reranker,
            models=models,
            gates=Gates(gates["requests"], gates["retrieval"], gates["rerank"]),
            habits=habits_of(settings),
            budgets=self._budgets,
            instance_id=self._world.new_id("instance"),
            assemble=request_for,
            toolbox=toolbox,
            schemas=schemas,
            checks=(unfounded_claim,),
            admit=self._admittance.admit,
            admit_job=self._admittance.admit_job,
            jobs=jobs.desk,
            sample=jobs.sampler.sample,
            suggestions=suggestions,
        )

    def _readiness(self, store: StateStore, models: Routes, telemetry: Telemetry, limits: Limits) -> Readiness:
        """Return what /readyz asks. A model that this machine cannot run has no row here, and has failed."""
        facts: dict[str, Callable[[], str]] = {"telemetry": lambda: telemetry.collector}
        if self._redis_url is not None:
            facts["limits"] = limits.state
        for row in self._settings.providers:
            if row.kind == "local":
                facts[f"model:{row.name}"] = partial(models.life_of, row.name)
        facts |= self._servers.states if self._servers is not None else {}
        facts |= self._jobs.states() if self._jobs is not None else {}
        return Readiness(store, lambda: self._admittance is not None and self._admittance.draining, facts)
