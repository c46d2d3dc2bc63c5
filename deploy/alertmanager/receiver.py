# ruff: noqa: INP001  # a script that is run by its path
"""Where the demo's alerts arrive: shows them at /, writes each as a line of JSON, and serves the runbook at /runbook.

Alertmanager's webhook posts here. Standard library only: `python receiver.py --host 0.0.0.0 --runbook runbook.md`.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
from collections import deque
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MAX_BODY = 1 << 20  # bytes of one notification
KEPT = 500  # alerts on the page
FACTS = ("status", "alertname", "severity", "job", "summary", "description", "startsAt", "endsAt", "runbook_url")


class Receiver(ThreadingHTTPServer):
    """Keeps the last alerts; the newest comes first."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], runbook: Path) -> None:
        super().__init__(address, Handler)
        self._alerts: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.runbook = runbook

    def alerts(self) -> tuple[dict[str, Any], ...]:
        """Return what is kept, the newest first. A copy: other threads go on taking."""
        return tuple(self._alerts)

    def take(self, notification: dict[str, Any]) -> None:
        """Keep and print the alerts of one notification."""
        for alert in notification["alerts"]:
            told = {**alert, **alert["labels"], **alert["annotations"]}
            facts = {name: told[name] for name in FACTS if name in told}
            self._alerts.appendleft(facts)
            sys.stdout.write(json.dumps(facts) + "\n")
            sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    """POST from Alertmanager, GET from people."""

    server: Receiver
    timeout = 10  # seconds for one read

    def do_POST(self) -> None:
        """Take a notification."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large")
            return
        try:
            self.server.take(json.loads(self.rfile.read(length)))
        except (ValueError, KeyError, TypeError):
            self._answer(HTTPStatus.BAD_REQUEST, "not a notification of Alertmanager")
            return
        self._answer(HTTPStatus.OK, "")

    def do_GET(self) -> None:
        """Show the alerts, or the runbook."""
        if self.path.partition("?")[0] == "/":
            self._answer(
                HTTPStatus.OK, page("Alerts", "\n\n".join(map(describe, self.server.alerts())) or "None so far.")
            )
        elif self.path.partition("?")[0] == "/runbook":
            self._answer(HTTPStatus.OK, page("Runbook", anchored(self.server.runbook.read_text(encoding="utf-8"))))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "not found")

    def log_message(self, *_: Any) -> None:
        """Only alerts are written."""

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def describe(alert: dict[str, Any]) -> str:
    """Return an alert as lines of HTML."""
    return "\n".join(f"{html.escape(name):>12}: {linked(str(value))}" for name, value in alert.items())


def linked(text: str) -> str:
    """Return `text` as HTML, a link if it is one."""
    safe = html.escape(text)
    return f'<a href="{safe}">{safe}</a>' if re.match(r"https?://", text) else safe


def anchored(markdown: str) -> str:
    """Return Markdown as it is, with an anchor at each heading: enough to be led to."""
    return re.sub(
        r"^(#+) (.+)$",
        lambda found: f'<b id="{found[2].lower()}">{found[0]}</b>',
        html.escape(markdown),
        flags=re.MULTILINE,
    )


def page(title: str, text: str) -> str:
    """Return a page that wraps its lines."""
    style = "max-width: 60rem; margin: 2rem auto; white-space: pre-wrap; font: 15px/1.5 monospace"
    return f'<!doctype html><meta charset="utf-8"><title>{title}</title><pre style="{style}">{text}</pre>'


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9095)
    parser.add_argument("--runbook", type=Path, default=Path(__file__).parents[1] / "runbook.md")
    given = parser.parse_args()
    with Receiver((given.host, given.port), given.runbook) as receiver:
        receiver.serve_forever()


if __name__ == "__main__":
    main()
