"""Users who do the same things again and again, in a thread of their own, until they are told to do something else."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Self

import aiohttp

from tests.e2e.support import ROOT, script
from tests.process import KEY


class Crowd:
    """`crowd.does(service, (deed, rate), …)`: each `deed(user)` so many times a second, instead of what was before."""

    def __enter__(self) -> Self:
        self._traffic = script(ROOT / "deploy/demo/traffic.py")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._http = self._run(self._open())
        self._busy = {}
        return self

    async def _open(self):
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def does(self, service, *habits):
        self._run(self._stop(service.url))
        user = self._traffic.User(self._http, service.url, KEY, random.Random(0))
        self._busy[service.url] = self._run(self._start(user, habits))

    async def _start(self, user, habits):
        return [asyncio.create_task(self._repeat(user, deed, rate)) for deed, rate in habits]

    async def _repeat(self, user, deed, rate):
        async with asyncio.TaskGroup() as running:
            while True:
                running.create_task(self._traffic.endured(deed(user)))
                await asyncio.sleep(1 / rate)

    async def _stop(self, url):
        tasks = self._busy.pop(url, ())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __exit__(self, *_):
        for url in list(self._busy):
            self._run(self._stop(url))
        self._run(self._http.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
