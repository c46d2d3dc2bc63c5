# ruff: noqa: INP001  # a script that is run by its path
"""Traffic for the demo, so that the boards live: users who read, leave, stall and err, and a model that fails at times.

`python traffic.py --url http://127.0.0.1:8080 --key-file data/demo.key --rate 4`. Arrivals do not wait for answers, as
with real users. The simulated model's id says how each turn goes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

QUESTIONS = (
    "What is case C-1042 about?",
    "Summarize case C-1042 and identify whether escalation review is needed.",
    "Which evidence rules apply to a witness statement?",
    "What does the timeline of C-1042 say about May?",
)
MOST_AT_ONCE = 600
LONGEST = 60.0  # seconds for one request


@dataclass(frozen=True)
class User:
    """Somebody who asks. One for all requests: sessions are made of its random numbers."""

    http: aiohttp.ClientSession
    url: str
    key: str
    chance: random.Random

    def headers(self) -> dict[str, str]:
        """Return who asks."""
        return {"Authorization": f"Bearer {self.key}"}

    def body(self, model: str, **more: Any) -> dict[str, Any]:
        """Return the body of a turn."""
        session = f"demo-{self.chance.randrange(40)}"
        return {"session_id": session, "message": self.chance.choice(QUESTIONS), "model": model, **more}

    async def ask(self, model: str, **more: Any) -> None:
        """Read an answer to its end."""
        body = self.body(model, **more)
        async with self.http.post(f"{self.url}/chat/stream", json=body, headers=self.headers()) as answer:
            await answer.read()

    async def leave(self, model: str, after: int) -> None:
        """Close after so many tokens."""
        async with self.http.post(f"{self.url}/chat/stream", json=self.body(model), headers=self.headers()) as answer:
            async for line in answer.content:
                after -= line.startswith(b"event: token_delta")
                if after < 0 or (after == 0 and line.startswith(b"event: retrieval_completed")):
                    break
            answer.close()

    async def stall(self) -> None:
        """Ask for a long answer and read nothing of it."""
        parts, body = (
            urlsplit(self.url),
            b'{"session_id": "stalled", "message": "tell", "model": "sim:tokens=20000,interval_ms=0"}',
        )
        head = (
            f"POST /chat/stream HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)  # noqa: FBT003  # the library's way
            await loop.sock_connect(reader, (parts.hostname, parts.port))
            await loop.sock_sendall(reader, head.encode() + body)
            await asyncio.sleep(LONGEST / 2)

    async def complete(self) -> None:
        """Ask in OpenAI's words, for a whole answer."""
        body = {"model": "sim:tokens=30,interval_ms=10", "messages": [{"role": "user", "content": QUESTIONS[0]}]}
        async with self.http.post(f"{self.url}/v1/chat/completions", json=body, headers=self.headers()) as answer:
            await answer.read()

    async def be_refused(self) -> None:
        """Send what is not taken: a wrong key, or an empty message."""
        headers = self.chance.choice((self.headers(), {"Authorization": "Bearer nobody"}))
        body = self.body("sim", message="")
        async with self.http.post(f"{self.url}/chat/stream", json=body, headers=headers) as answer:
            await answer.read()

    async def work(self) -> None:
        """Ask for a report as a job."""
        body = {"kind": "report", "input": {"question": self.chance.choice(QUESTIONS), "model": "sim:tokens=40"}}
        async with self.http.post(f"{self.url}/jobs", json=body, headers=self.headers()) as answer:
            await answer.read()

    async def approve(self) -> None:
        """Decide on every tool call that waits for it."""
        waiting = f"{self.url}/tool-calls?status=awaiting_approval"
        async with self.http.get(waiting, headers=self.headers()) as answer:
            found = await answer.json() if answer.ok else {}
        for call in found.get("tool_calls", ()):
            decision = {"decision": self.chance.choice(("approve", "approve", "deny"))}
            address = f"{self.url}/tool-calls/{call['call_id']}/approval"
            async with self.http.post(address, json=decision, headers=self.headers()) as answer:
                await answer.read()


Deed = Callable[[User], Awaitable[None]]
HABITS: tuple[tuple[int, Deed], ...] = (
    (300, lambda user: user.ask(f"sim:ttft_ms={user.chance.randrange(80, 500)},tokens=60,interval_ms=20")),
    (80, lambda user: user.ask(f"sim:ttft_ms={user.chance.randrange(500, 1500)},tokens=120,interval_ms=15")),
    (40, lambda user: user.ask("sim:ttft_ms=150,tokens=40", grounding="required")),
    (40, User.complete),
    (30, lambda user: user.ask("sim:tool=case_lookup,tokens=40")),
    (15, lambda user: user.ask("sim:tool=policy_lookup,tokens=40")),
    (4, lambda user: user.ask("sim:tool=open_escalation_review,tokens=30")),
    (12, lambda user: user.work()),
    (12, lambda user: user.leave("sim:ttft_ms=900", 0)),
    (20, lambda user: user.leave("sim:tokens=200,interval_ms=20", 30)),
    (10, User.be_refused),
    (6, lambda user: user.ask("sim:fail_times=1,tokens=40")),
    (3, lambda user: user.ask("sim:status=429")),
    (3, lambda user: user.ask("sim:fail_at=20")),
    (2, lambda user: user.ask("sim:garbage_at=12")),
    (3, lambda user: user.ask("sim:ttft_ms=8000")),
    (2, lambda user: user.ask("sim:stall_at=15")),
    (1, User.stall),
)


async def endured(deed: Awaitable[None]) -> None:
    """Do it; users put up with everything."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(LONGEST):
            await deed


async def drive(user: User, *, rate: float, seconds: float, burst: int) -> None:
    """Let users arrive, at random moments `rate` times a second; `burst` more of them at once every half minute."""
    loop = asyncio.get_running_loop()
    weights, deeds = zip(*HABITS, strict=True)
    end, next_burst = loop.time() + seconds, loop.time() + 10
    async with asyncio.TaskGroup() as running:
        tasks: set[asyncio.Task[None]] = set()
        while loop.time() < end:
            chosen = user.chance.choices(deeds, weights)
            if burst and loop.time() > next_burst:
                chosen += [HABITS[0][1]] * burst
                chosen.append(User.approve)
                next_burst += 30
            for deed in chosen[: MOST_AT_ONCE - len(tasks)]:
                task = running.create_task(endured(deed(user)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(user.chance.expovariate(rate))


def key_of(path: Path | None) -> str:
    """Return the key: from FOREBAY_KEY, or from the file that the service writes at its first start."""
    if given := os.environ.get("FOREBAY_KEY"):
        return given
    if path is None:
        raise SystemExit("set FOREBAY_KEY or give --key-file")
    return path.read_text(encoding="utf-8").strip()


async def main() -> None:
    """Send traffic until stopped, or for `--seconds`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second")
    parser.add_argument("--burst", type=int, default=100, help="requests at once, every 30 s")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        chance = random.Random(given.seed)  # noqa: S311  # traffic, not secrets
        user = User(http, given.url, key_of(given.key_file), chance)
        await drive(user, rate=given.rate, seconds=given.seconds, burst=given.burst)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
