"""A provider on a socket: answers with the bytes it is given, and sees what it is asked and when it is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DIALECTS = Path(__file__).parents[1] / "fixtures" / "dialects"


def recorded(name: str) -> bytes:
    return (DIALECTS / name).read_bytes()


@dataclass(frozen=True)
class Answer:
    """What is sent. `then`: end the body, cut the connection, or hold it open without another word."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/event-stream"),)
    then: Literal["end", "cut", "hold"] = "end"
    piece: int = 1 << 16  # bytes in one chunk
    silent: bool = False  # not even headers


@dataclass
class Asked:
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


@dataclass
class Provider:
    """The server's side of the story. `left` is set once a connection was closed by the other side."""

    answers: list[Answer]
    base_url: str = ""
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while await self._answer(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.asked.append(Asked(headers, json.loads(body), number))
        answer = self.answers.pop(0)
        self.arrived.set()
        if not answer.silent:
            await _write(writer, answer)
        if answer.then == "hold":
            await reader.read()
        return answer.then == "end"


async def _write(writer: asyncio.StreamWriter, answer: Answer) -> None:
    fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    writer.write(f"HTTP/1.1 {answer.status} Whatever\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode())
    for start in range(0, len(answer.body), answer.piece):
        piece = answer.body[start : start + answer.piece]
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    if answer.then == "end":
        writer.write(b"0\r\n\r\n")
    await writer.drain()


@asynccontextmanager
async def provider(*answers: Answer) -> AsyncIterator[Provider]:
    served = Provider(list(answers))
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
