"""A redis-server on a socket in a folder of its own, which a test may kill, stop and start again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess

from redis.exceptions import RedisError

from service.runtime.redis_client import connect
from tests.support import PATIENCE, require

SOON = PATIENCE


class RedisServer:
    def __init__(self, folder):
        self.program = require("redis-server", "apt-get install -y redis-server")
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"

    def start(self):
        options = ["--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([self.program, *options], stdout=subprocess.DEVNULL)

    def kill(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.path.unlink(missing_ok=True)

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


async def until_answering(server):
    redis = connect(server.url)
    try:
        async with asyncio.timeout(SOON):
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await redis.ping()
                    return
                await asyncio.sleep(0.01)
    finally:
        await redis.aclose()


async def until(condition):
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)
