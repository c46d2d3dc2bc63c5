"""Clients of the service that speak bytes, for what no HTTP client would do."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from urllib.parse import urlsplit

from tests.process import KEY, Service
from tests.support import PATIENCE, until  # noqa: F401 -- who speaks bytes waits as well

FLOOD = "sim:tokens=5000,interval_ms=0,ttft_ms=0"


def address(service: Service) -> tuple[str, int]:
    found = urlsplit(service.url)
    return found.hostname, found.port


def connect(service: Service, data: bytes = b"", receive_buffer: int = 0) -> socket.socket:
    """A connection on which `data` is sent. `receive_buffer` in bytes: how much the kernel takes that nobody reads."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(PATIENCE)
    connection.connect(address(service))
    connection.sendall(data)
    return connection


def chat(model: str, *, session: str = "raw", headers: str = "", message: str = "What is case C-1042 about?") -> bytes:
    """A chat turn as bytes."""
    body = json.dumps({"session_id": session, "message": message, "model": model}).encode()
    head = f"POST /chat/stream HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {KEY}\r\n{headers}"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        piece = connection.recv(65536)
        assert piece, f"closed after {data[-300:]!r}"
        data += piece
    return data


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes or resets."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def kernel_memory(service: Service) -> list[int]:
    """What the kernel holds for each of the service's connections, in bytes: `w` of ss's skmem."""
    command = ["ss", "-tmnH", "state", "connected", f"sport = :{address(service)[1]}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(queued) for queued in re.findall(r"skmem:\([^)]*,w(\d+),", out)]


def held(service: Service) -> list[str]:
    """The states of the connections that the kernel still knows on the service's side, those at rest left out."""
    command = ["ss", "-tanH", f"sport = :{address(service)[1]}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [state for line in out.splitlines() if (state := line.split()[0]) not in ("LISTEN", "TIME-WAIT")]


def family(service: Service) -> dict[int, int]:
    """The service's processes, and the bytes of memory that each has."""
    out = subprocess.run(["ps", "-eo", "pid,ppid,rss"], capture_output=True, text=True, check=True).stdout
    rows = [tuple(map(int, line.split())) for line in out.splitlines()[1:]]
    found = {service.process.pid}
    for _ in range(3):
        found |= {pid for pid, parent, _ in rows if parent in found}
    return {pid: size * 1024 for pid, _, size in rows if pid in found}


def resident(service: Service) -> int:
    """Bytes of memory that the service's processes have."""
    return sum(family(service).values())
