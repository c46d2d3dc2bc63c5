"""What is relied on of uvicorn's and the kernel's insides: when an update breaks one of these, look there first."""

from __future__ import annotations

import inspect
import socket
import sys
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl

from service.server.limits import ServerLimits
from service.server.run import listen
from tests.http.server.harness import HEAD, Running, answer

PROTOCOL = httptools_impl.HttpToolsProtocol


def test_the_version_is_the_one_that_was_read():
    lock = (Path(__file__).parents[3] / "requirements.lock").read_text()
    assert f"\nuvicorn=={uvicorn.__version__} " in lock
    assert uvicorn.__version__.startswith("0.54.")


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (PROTOCOL._start_asgi_task, ["self", "cycle", "app"]),
        (PROTOCOL.on_response_complete, ["self"]),
        (PROTOCOL.on_header, ["self", "name", "value"]),
        (PROTOCOL.on_body, ["self", "body"]),
        (PROTOCOL.shutdown, ["self"]),
        (uvicorn.Server.on_tick, ["self", "counter"]),
        (uvicorn.Server.startup, ["self", "sockets"]),
        (uvicorn.Server.handle_exit, ["self", "sig", "frame"]),
    ],
)
def test_what_is_overridden_is_still_called_so(method, parameters):
    assert list(inspect.signature(method).parameters) == parameters


@pytest.mark.parametrize("start", ["on_headers_complete", "on_response_complete"])
def test_the_application_is_started_in_one_place_only(start):
    assert "self._start_asgi_task(" in inspect.getsource(getattr(PROTOCOL, start))
    assert inspect.getsource(httptools_impl).count("run_asgi(app)") == 3  # definition aside: all in _start_asgi_task
    assert inspect.getsource(PROTOCOL._start_asgi_task).count("run_asgi(app)") == 3


def test_a_cycle_has_what_is_set_and_asked_of_it():
    cycle = httptools_impl.RequestResponseCycle(*[None] * 8, True, True, None)
    assert (cycle.disconnected, cycle.more_body, cycle.response_complete) == (False, True, False)
    assert (cycle.waiting_for_100_continue, cycle.keep_alive, cycle.body) == (True, True, bytearray())


def test_an_open_connection_is_in_the_servers_state():
    with Running() as server, server.connect(b"GET /pid" + HEAD + b"\r\n") as client:
        answer(client)
        (connection,) = server.in_loop(lambda: set(server.server.server_state.connections))
        assert connection.connections is server.server.server_state.connections


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's rule")
def test_a_connection_inherits_the_listeners_options():
    limits = ServerLimits()
    ((listener,),) = listen("127.0.0.1", [0], 1, limits)
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * limits.send_buffer_bytes
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == limits.probe_after_seconds
