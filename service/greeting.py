"""What a person is told when the service serves: where it is, how to ask it, and with which key. For cli.py alone."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from service.providers import local

if TYPE_CHECKING:
    from service.settings import Settings


def greet(settings: Settings, key: str | None, port: int) -> None:
    """Tell a person how to go on. The key is for a terminal only: what is no terminal may be a log."""
    base = f"http://{settings.server.host}:{port}"
    lines = [f"Forebay serves on {base}"]
    if any(row.kind == "local" for row in settings.providers) and (reason := local.available()):
        lines.append(f"The local model is not available here ({reason}): the simulated one answers.")
    if key is not None:
        body = """{"session_id": "hello", "message": "What is case C-1042 about?"}"""
        lines += [
            "",
            f"  export FOREBAY_KEY={key if sys.stderr.isatty() else _where_the_key_is(settings)}",
            f'  curl -N {base}/chat/stream -H "Authorization: Bearer $FOREBAY_KEY" \\',
            f"    -H 'Content-Type: application/json' -d '{body}'",
        ]
    if settings.serves_playground:
        lines += ["", f"Playground: {base}/"]
    click.echo("\n".join([*lines, ""]), err=True)


def _where_the_key_is(settings: Settings) -> str:
    """Return what a shell replaces by the demo key."""
    return "$FOREBAY_DEMO_KEY" if os.environ.get("FOREBAY_DEMO_KEY") else f"$(cat {settings.data_folder / 'demo.key'})"
