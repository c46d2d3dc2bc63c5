# ruff: noqa: INP001  # a script that is run by its path
"""The regulatory case assistant, to watch: a grounded summary, a review that a human approves, a client that leaves.

`make demo` starts a service of its own with the simulated model, on a free port and in a folder that is thrown away.
`python case_assistant.py --url http://127.0.0.1:8080 --key-file data/demo.key` uses one that runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

SUMMARY = "Summarize case C-1042 and identify whether escalation review is needed."
REFERRAL = "Open an escalation review for case {case}: reason (a) of ESC-1 holds."
SIMULATED = '[[providers]]\nname = "simulated"\nkind = "simulated"\nmodels = ["sim"]\n'
STARTS_WITHIN = 60.0  # seconds
WIDTH = 100

Event = tuple[str, dict[str, Any]]


class Screen:
    """Where it is shown: events with the time since the question, the answer as it grows."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty()
        self._column = 0
        self.began = 0.0

    def heading(self, text: str) -> None:
        """Begin an act."""
        self._line(f"\n{self._in('1', text)}\n")

    def asks(self, question: str) -> None:
        """Show a question; its clock starts."""
        self.began = time.monotonic()
        self._line(f"  {self._in('36', 'user')}  {question}")

    def note(self, text: str) -> None:
        """Say something beside the stream."""
        for line in textwrap.wrap(text, WIDTH):
            self._line(f"          {self._in('33', line)}")

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Show an event as it arrives."""
        if kind == "token_delta":
            self._text(data["text"])
            return
        elapsed = f"{(time.monotonic() - self.began) * 1e3:6.0f} ms"
        self._line(f"{self._in('2', elapsed)} {self._in('32', kind)} {_told(kind, data)}")

    def _text(self, text: str) -> None:
        if self._column == 0 or self._column + len(text) > WIDTH:
            self._write("\n          " if self._column else "          ")
            self._column = 10
        self._write(text)
        self._column += len(text)

    def _line(self, text: str) -> None:
        self._write(f"\n{text}\n" if self._column else f"{text}\n")
        self._column = 0

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _told(kind: str, data: dict[str, Any]) -> str:
    """Return what of an event a person wants to see."""
    if kind == "retrieval_completed":
        return ", ".join(document["id"] for document in data["documents"])
    if kind == "tool_call_requested":
        arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in data["arguments"].items())
        return f"{data['tool']}({arguments}): {data['authorization']}, {data['status']}"
    if kind == "message_completed":
        return f"{data['usage']['generated_tokens']} tokens, cites {', '.join(data['citations'])}"
    names = ("tool", "status", "model", "code", "message")
    return " ".join(str(data[name]) for name in names if data.get(name))


@dataclass
class User:
    """Somebody with a key, who may also approve."""

    http: aiohttp.ClientSession
    url: str
    screen: Screen
    session: str = field(default_factory=lambda: f"demo-{secrets.token_hex(4)}")

    async def ask(self, question: str, model: str) -> AsyncGenerator[Event, None]:
        """Ask, and yield the events as they come, each one shown."""
        self.screen.asks(question)
        body = {"session_id": self.session, "message": question, "model": model, "grounding": "required"}
        async with self.http.post(f"{self.url}/chat/stream", json=body) as answer:
            answer.raise_for_status()
            kind = ""
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data = json.loads(value)
                    self.screen.event(kind, data)
                    yield kind, data

    async def decide(self, call_id: str, decision: str) -> int:
        """Decide on a call as an approver, having looked at it; return the status that this is answered with."""
        async with self.http.get(f"{self.url}/tool-calls", params={"status": "awaiting_approval"}) as answer:
            waiting = {call["call_id"]: call for call in (await answer.json())["tool_calls"]}
        body = {"decision": decision}
        if call_id in waiting:
            body["arguments_digest"] = waiting[call_id]["arguments_digest"]
        async with self.http.post(f"{self.url}/tool-calls/{call_id}/approval", json=body) as answer:
            return answer.status

    async def transcript(self) -> list[dict[str, Any]]:
        """Return what the session holds."""
        async with self.http.get(f"{self.url}/sessions/{self.session}/messages") as answer:
            messages: list[dict[str, Any]] = (await answer.json())["messages"]
            return messages

    async def settled(self) -> dict[str, Any]:
        """Return the last answer once it is not streaming any more."""
        while (last := (await self.transcript())[-1])["status"] == "streaming":  # noqa: ASYNC110 -- over HTTP
            await asyncio.sleep(0.05)  # the service tells nobody else when a turn has ended
        return last


async def summary(user: User, pace: str) -> list[Event]:
    """Act 1: evidence, the policy as a tool call, an answer that cites; no status was changed."""
    user.screen.heading("1  A summary with evidence, and the policy looked up on the way")
    return [event async for event in user.ask(SUMMARY, f"sim:tool=policy_lookup{pace}")]


async def review(user: User, pace: str, case: str) -> list[Event]:
    """Act 2: a side effect waits until a human has approved it."""
    user.screen.heading("2  A review is opened, once a human has approved it")
    events: list[Event] = []
    asked = user.ask(REFERRAL.format(case=case), f"sim:tool=open_escalation_review{pace}")
    async with contextlib.aclosing(asked) as told:
        async for kind, data in told:
            events.append((kind, data))
            if kind == "tool_call_requested":
                user.screen.note("The clocks stand still; an approver looks at the arguments and approves.")
                await user.decide(data["call_id"], "approve")
    return events


async def departure(user: User, pace: str, case: str) -> dict[str, Any]:
    """Act 3: the client leaves while its call waits; nothing was done, and nobody can approve it any more."""
    user.screen.heading("3  The client leaves while a review waits for approval")
    call_id = ""
    asked = user.ask(REFERRAL.format(case=case), f"sim:tool=open_escalation_review{pace}")
    async with contextlib.aclosing(asked) as told:
        async for kind, data in told:
            if kind == "tool_call_requested":
                call_id = data["call_id"]
                break
    user.screen.note("The client has closed its connection.")
    last = await user.settled()
    call = last["tool_calls"][0]
    user.screen.note(f"The answer is {last['status']}; the call of {call['tool']} is {call['status']}.")
    late = await user.decide(call_id, "approve")
    user.screen.note(f"An approver who comes too late is answered {late}: nothing was escalated.")
    return {"message": last["status"], "call": call["status"], "late": late}


async def play(url: str, key: str, pace: str) -> None:
    """Play the three acts against a service that runs."""
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=180)) as http:
        await summary(User(http, url, Screen()), pace)
        await review(User(http, url, Screen()), pace, "C-1042")
        await departure(User(http, url, Screen()), pace, "C-1051")


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[tuple[str, str]]:
    """Start a service of its own and yield its address and key; afterwards nothing of it is left."""
    key = f"fb_demo_{secrets.token_hex(32)}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "forebay.toml"
        config.write_text(SIMULATED, encoding="utf-8")
        arguments = ("-m", "service", "serve", "--config", str(config), "--data-dir", folder, "--port", "0")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "FOREBAY_DEMO_KEY": key},
        )
        try:
            async with asyncio.timeout(STARTS_WITHIN):
                url = await _address(process)
            yield url, key
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None  # noqa: S101  (types: it was asked for)
    told = ""
    while line := (await process.stderr.readline()).decode():
        told += line
        if found := re.search(r"serves on (http://\S+)", line):
            return found[1]
    raise SystemExit(f"The service did not start:\n{told}")


async def main() -> None:
    """Read the command line and play."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--url", help="a service that runs; without it, one is started")
    parser.add_argument("--key-file", type=Path, default=Path("data/demo.key"))
    parser.add_argument("--quick", action="store_true", help="as fast as it goes, instead of at 50 tokens a second")
    given = parser.parse_args()
    pace = ",ttft_ms=1,interval_ms=1" if given.quick else ""
    if given.url:
        await play(given.url, given.key_file.read_text(encoding="utf-8").strip(), pace)
        return
    async with service() as (url, key):
        await play(url, key, pace)


if __name__ == "__main__":
    asyncio.run(main())
