"""What `forebay serve` tells whoever started it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service import settings
from service.greeting import greet as tell

KEY = "fb_demo_secret"


@pytest.fixture
def greeting(tmp_path, monkeypatch, capsys):
    """Return what is said at the start, to a terminal or not."""

    def greet(*, terminal):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
        tell(settings.load(None, Path(tmp_path), {}), KEY, 8080)
        return capsys.readouterr().err

    monkeypatch.delenv("FOREBAY_DEMO_KEY", raising=False)
    return greet


def test_a_terminal_is_shown_the_demo_key(greeting):
    assert f"export FOREBAY_KEY={KEY}\n" in greeting(terminal=True)


def test_what_may_be_a_log_is_told_where_the_demo_key_is_and_not_the_key(greeting, tmp_path):
    said = greeting(terminal=False)
    assert KEY not in said
    assert f"export FOREBAY_KEY=$(cat {tmp_path / 'demo.key'})\n" in said
    assert "http://127.0.0.1:8080" in said


def test_a_key_of_the_environment_stays_there(greeting, monkeypatch):
    monkeypatch.setenv("FOREBAY_DEMO_KEY", KEY)
    said = greeting(terminal=False)
    assert KEY not in said
    assert "export FOREBAY_KEY=$FOREBAY_DEMO_KEY\n" in said
