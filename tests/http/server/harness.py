"""A server in a thread, a client that speaks bytes, and a server in a process of its own. Every wait is bounded."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Self

from service.server.limits import ServerLimits
from service.server.run import Serving, listen, make_server
from tests.http.server.app import App

PATIENCE = 60.0  # seconds: the bound of every wait, reached only by a failing test
HEAD = b" HTTP/1.1\r\nHost: test\r\n"


class Running:
    """The test's application, served by a thread of this process."""

    def __init__(self, limits: ServerLimits | None = None) -> None:
        self.limits = limits or ServerLimits()

    def __enter__(self) -> Self:
        self.app = App()
        started = threading.Event()
        serving = Serving(make_app=self.app.application, drain_seconds=0, limits=self.limits, trusted_proxies=())
        (self.sockets,) = listen("127.0.0.1", [0], 1, self.limits)
        self.address = self.sockets[0].getsockname()
        self.server = make_server(serving, started.set)
        self.thread = threading.Thread(target=self.server.run, args=(self.sockets,), name="server")
        self.thread.start()
        assert started.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.handle_exit(signal.SIGTERM, None)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def connect(self, data: bytes = b"", receive_buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(PATIENCE)
        connection.connect(self.address)
        connection.sendall(data)
        return connection

    def noted(self, what: str):
        """The next note, which must be `what`."""
        kind, value = self.app.notes.get(timeout=PATIENCE)
        assert kind == what
        return value

    def in_loop(self, call):
        """What `call()` returns in the server's loop: state is looked at where it is changed."""
        done, result = threading.Event(), []
        self.server._loop.call_soon_threadsafe(lambda: (result.append(call()), done.set()))
        assert done.wait(PATIENCE)
        return result[0]

    def connections(self) -> int:
        return self.in_loop(lambda: len(self.server.server_state.connections))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    content: bytes


def answer(connection: socket.socket) -> Answer:
    """One answer with a Content-Length, and not a byte more: another may follow."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, f"closed after {head!r}"
        head += piece
    status, _, fields = head.partition(b"\r\n")
    headers = http.client.parse_headers(io.BytesIO(fields))
    content = bytearray()
    while (left := int(headers["content-length"]) - len(content)) and (piece := connection.recv(min(left, 65536))):
        content += piece
    return Answer(int(status.split()[1]), headers, bytes(content))


def problem(response: Answer) -> dict:
    assert response.headers["content-type"] == "application/problem+json"
    body = json.loads(response.content)
    assert body["status"] == response.status
    assert body["trace_id"] == response.headers["x-request-id"]
    return body


def closed(connection: socket.socket) -> bytes:
    """Everything until the server closes; empty when it closes without a word."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def is_readable(connection: socket.socket, within: float = 0.0) -> bool:
    """Whether there is something to read, an end too."""
    return bool(select.select([connection], [], [], within)[0])


def is_closed(connection: socket.socket, within: float) -> bool:
    """Whether the server closes (or resets) the connection in time, and says nothing before."""
    return is_readable(connection, within) and not closed(connection)


def eventually(condition, within: float = PATIENCE) -> None:
    """For a state that announces nothing, such as the kernel's: look until it is so."""
    pause = threading.Event()
    for _ in range(int(within / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it never came to that")


class Process:
    """`app.py`, as a process."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.arguments, self.environment = arguments, environment

    def __enter__(self) -> Self:
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("app.py"), *self.arguments],
            env={**os.environ, "PYTHONPATH": str(root), **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C is a signal to its group: `interrupt`
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def port(self) -> int:
        """Wait until it serves."""
        word, port = self.process.stdout.readline().split()
        assert word == "port"
        return int(port)

    def connect(self, port: int, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        connection.sendall(data)
        return connection

    def get(self, port: int, path: str) -> Answer:
        with self.connect(port, b"GET " + path.encode() + HEAD + b"\r\n") as connection:
            return answer(connection)

    def signal(self, sig: int = signal.SIGTERM) -> None:
        self.process.send_signal(sig)

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self) -> int:
        return self.process.wait(PATIENCE)
