"""Parts of a service that behave as a test wants, around or instead of the real ones."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing


class Slowly:
    """A part whose coroutines take `seconds` longer, and then raise `error` if there is one.

    `only`: the name of the one method that is slow or broken; None for all.
    """

    def __init__(self, part):
        self._part = part
        self.seconds, self.error, self.only = 0.0, None, None

    def becomes(self, seconds=0.0, error=None, only=None):
        """Behave so from now on."""
        self.seconds, self.error, self.only = seconds, error, only

    def __getattr__(self, name):
        method = getattr(self._part, name)
        if name == "close" or not inspect.iscoroutinefunction(method) or self.only not in (None, name):
            return method

        async def slowly(*args, **kwargs):
            if self.seconds:
                await asyncio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
            return await method(*args, **kwargs)

        return slowly


class Watched:
    """A model of which we know how many streams are open, and what it was asked."""

    def __init__(self, model):
        self._model = model
        self.name = model.name
        self.open = 0
        self.calls = []

    async def stream(self, request):
        self.open += 1
        self.calls.append(request)
        try:
            async with aclosing(self._model.stream(request)) as deltas:
                async for said in deltas:
                    yield said
        finally:
            self.open -= 1

    async def close(self):
        await self._model.close()


class Says:
    """A model that yields `deltas`, each by itself; a tuple among them is what comes at once.

    For numbers among them it sleeps so many seconds, errors it raises.
    """

    name = "simulated"

    def __init__(self, *deltas):
        self._deltas = deltas

    async def stream(self, request):
        for delta in self._deltas:
            if isinstance(delta, int | float):
                await asyncio.sleep(delta)
            elif isinstance(delta, Exception):
                raise delta
            else:
                yield delta if isinstance(delta, tuple) else (delta,)

    async def close(self):
        pass


class InTurn:
    """A model that answers each call with the next of `scripts` (see `Says`), with the last one again and again."""

    name = "simulated"

    def __init__(self, *scripts):
        self._scripts = scripts
        self.times = []  # of the calls

    async def stream(self, request):
        self.times.append(asyncio.get_running_loop().time())
        script = self._scripts[min(len(self.times), len(self._scripts)) - 1]
        async with aclosing(Says(*script).stream(request)) as deltas:
            async for said in deltas:
                yield said

    async def close(self):
        pass
