"""Turns with a side effect, each in a process of its own that is killed at a random moment, and tried again by another.

Run as `python -m tests.contract.killing URL FILE COUNT SEED`: prints one line of JSON for each turn. The processes are
forked from this one, which is warm and has a single thread, so that one costs milliseconds. The side effect is a line
in FILE, which is no part of the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from service.calls import Tool
from service.equipment import toolbox_of
from service.ports import ToolSpec
from service.runtime.schemas_inline import InlineSchemas
from service.runtime.world import real_world
from service.settings import Settings
from service.store.address import is_postgres, postgres_dsn, sqlite_path
from service.store.postgres import open_postgres
from service.store.process import this_process
from service.store.sqlite import open_sqlite
from service.store.store import StateStore
from tests.flow.house import ANN, BUDGETS, House
from tests.flow.tools import SCHEMA, Asks, call

BESIDE = 0.008  # seconds that the tool takes before and after its effect: wide enough to be hit
WANTED, ENOUGH = {"completed", "indeterminate"}, 10  # how calls must have ended, and how many times `count` at most
AND_AGAIN = 0.2  # the share of turns that are taken a third time


class Effects:
    """The world outside: a file to which every process appends."""

    def __init__(self, path):
        self._path = Path(path)

    async def run(self, use):
        await asyncio.sleep(BESIDE)
        with os.fdopen(os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY), "w") as file:
            file.write(use.key + "\n")
        await asyncio.sleep(BESIDE)
        return {"done": True}

    async def lookup(self, use):
        return {"done": True} if self.count(use.key) else None

    def count(self, part):
        """Return how many lines have `part` in their key."""
        return sum(part in line for line in self._path.read_text().splitlines()) if self._path.exists() else 0

    def tool(self, *, looked_up, approval):
        return Tool(
            ToolSpec("act", "Does it.", SCHEMA),
            self.run,
            side_effects=True,
            approval=approval,
            lookup=self.lookup if looked_up else None,
        )


async def open_driver(url):
    if is_postgres(url):
        return await open_postgres(postgres_dsn(url))
    return await open_sqlite(sqlite_path(url))


@cache
def house_for(effects, looked_up, approval):
    """Return a service, made in the parent: a process that is forked has it at once."""
    unhurried = {
        "total": 120.0,
        "phases": dict.fromkeys(BUDGETS.phases, 60.0),
        "persist": 60.0,
    }  # the machine may be busy
    house = House(tools=[effects.tool(looked_up=looked_up, approval=approval)], budgets=unhurried)
    house.routes.add("simulated", Asks([call()]))
    return house


async def turn(url, effects, point, began, *, leaves_in=None):
    """Take the turn of `point` as a process that has just started does, and return how its call stands."""
    house = house_for(effects, point["looked_up"], point["approval"])
    world, instance = real_world(), f"instance-{os.getpid()}"
    store = StateStore(await open_driver(url), world, house.observer, this_process())
    await store.beat(instance)
    await store.interrupt_orphans(world.now())
    await store.settle_orphaned_calls()
    toolbox = toolbox_of(house.tools, Settings(), store, InlineSchemas(), house.observer)
    house.parts = replace(house.parts, store=store, toolbox=toolbox, world=world, instance_id=instance)
    client = house.client(session=point["session"], headers={"idempotency-key": point["session"]})
    if leaves_in is not None:
        client.leave_in(leaves_in)
    began()
    loop = asyncio.get_running_loop()
    since = loop.time()
    approver = asyncio.create_task(approve(store, toolbox)) if point["approval"] else None
    await house.connect(client)
    seconds = loop.time() - since
    if approver is not None:
        approver.cancel()
        with suppress(asyncio.CancelledError):
            await approver
    said = await store.messages(ANN.tenant, ANN.user, point["session"]) or ()
    await store.leave(instance)
    await store.close()
    return {
        "seconds": seconds,
        "messages": [message.status for message in said],
        "calls": [one["status"] for message in said for one in message.tool_calls],
        "effects": effects.count(f":{point['session']}:"),
    }


async def approve(store, toolbox):
    """Approve whatever waits."""
    while True:
        for pending in await store.pending_calls(ANN.tenant):
            await store.decide_call(pending, approve=True, who="lead")
            toolbox.approvals.wake(pending.call_id)
        await asyncio.sleep(0.002)


def fork(work):
    """Run `work(tell)` in a process of its own; return its id and the pipe from which what it tells is read."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, os.fdopen(reading)
    os.close(reading)
    pipe = os.fdopen(writing, "w")

    def tell(line=""):
        pipe.write(line + "\n")
        pipe.flush()

    code = 1
    try:
        work(tell)
        code = 0
    finally:
        os._exit(code)


def killed_at(delay, url, effects, point):
    """Let a process take the turn, and kill it `delay` seconds after it has begun."""
    pid, told = fork(lambda tell: asyncio.run(turn(url, effects, point, tell)))
    assert told.readline() == "\n", "it did not begin"
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    told.close()
    return os.WIFSIGNALED(status)


def taken(url, effects, point, leaves_in=None):
    """Let a process take the turn to its end, and return what it says."""

    def work(tell):
        tell(json.dumps(asyncio.run(turn(url, effects, point, lambda: None, leaves_in=leaves_in))))

    pid, told = fork(work)
    line = told.readline()
    told.close()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"a process ended with {status}"
    return json.loads(line)


def main(url, file, count, seed):
    """Kill `count` turns, try each again until it is completed, and say how each stands after every step.

    Go on until some were killed before or after the effect and some in between: the machine decides how soon that is.
    """
    effects, chance = Effects(file), random.Random(seed)
    assert threading.active_count() == 1 == len(list(Path("/proc/self/task").iterdir())), "only then may it fork"
    for looked_up in (False, True):
        for approval in (False, True):
            house_for(effects, looked_up, approval)
    longest = taken(url, effects, {"session": "whole", "looked_up": False, "approval": True})["seconds"]
    seen = set()
    for number in range(ENOUGH * count):
        if number >= count and seen >= WANTED:
            break
        point = {
            "session": f"s{number}",
            "looked_up": chance.random() < 0.3,
            "approval": chance.random() < 0.5,
        }
        delay = chance.uniform(0.0, longest)
        if chance.random() < 0.8:
            point["killed"] = killed_at(delay, url, effects, point)
        else:
            point["left"] = taken(url, effects, point, leaves_in=delay)
        point["again"] = taken(url, effects, point)
        if point.get("killed"):
            seen.update(point["again"]["calls"])
        point["once_more"] = taken(url, effects, point) if chance.random() < AND_AGAIN else point["again"]
        sys.stdout.write(json.dumps(point) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
