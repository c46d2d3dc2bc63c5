"""Drives load.c: many SSE streams from a client that costs less than a tenth of the server. Loopback only, bounded."""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

SOURCE = Path(__file__).with_name("load.c")


@cache
def _program() -> str:
    """Compile the client once in this process and return its path."""
    program = Path(tempfile.mkdtemp(prefix="forebay-load-")) / "load"
    subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE), "-lm"], check=True)
    return str(program)


def load(
    url: str,
    body: bytes,
    *,
    headers: dict[str, str] | None = None,
    concurrency: int = 1,
    total: int = 1,
    keep_alive: bool = True,
    abort_after: int = 0,
    connects_per_second: float = 0.0,
    seconds: float = 60.0,
    late_after: float = 0.0,
    late_for: float = 0.0,
    first: str = "",
    spin: bool = False,
) -> dict:
    """POST `body` to `url` `total` times, `concurrency` at once, and return what was seen.

    Args:
        url: on the loopback interface.
        body: the JSON of every request.
        headers: sent besides the usual ones.
        concurrency: streams at once.
        total: streams in all.
        keep_alive: use a connection for the next stream.
        abort_after: close each stream after so many events; 0: read it to its end.
        connects_per_second: how fast the first streams are opened; 0: at once.
        seconds: when to stop at the latest.
        late_after: seconds from the start until the gaps between events count.
        late_for: seconds in which they count; 0: to the end.
        first: the first token is the first event whose beginning holds this text; "": any.
        spin: never sleep. On loopback a `send` pays for waking who sleeps, as no network does: a server that outruns
            its client is spared that, a slower one is not.

    Returns:
        Counts; `first_ms`, `whole_ms`, `gap_ms` as quantiles; seconds of the client's own CPU.
    """
    target = urlsplit(url)
    if not (target.hostname or "").startswith("127."):
        raise ValueError("only 127.0.0.0/8 is a target")
    head = {
        "Host": target.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = [f"POST {target.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    with tempfile.NamedTemporaryFile() as request:
        request.write("\r\n".join([*lines, "", ""]).encode() + body)
        request.flush()
        arguments = [
            target.hostname, target.port, request.name, concurrency, total, int(keep_alive), abort_after,
            connects_per_second, seconds, late_after, late_for, first, int(spin),
        ]  # fmt: skip
        done = subprocess.run(
            [_program(), *map(str, arguments)], stdout=subprocess.PIPE, check=True, timeout=seconds + 30
        )
    return json.loads(done.stdout)
