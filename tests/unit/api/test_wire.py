"""One HTTP exchange: the body in its pieces, its limit, and the moment in which the client leaves."""

import asyncio

import pytest

from service.api.wire import Wire
from service.errors import TooLarge
from tests.virtual_loop import run


class Peer:
    """The other end: gives `pieces` of a body, one a second, then leaves at `leaves`, if ever."""

    def __init__(self, *pieces, leaves=None, headers=()):
        self._pieces = list(pieces)
        self._leaves = leaves
        self.sent = []
        self.aborted = 0
        self.scope = {
            "headers": list(headers),
            "client": ("10.0.0.1", 80),
            "extensions": {"forebay.abort": self._abort},
        }

    def _abort(self):
        self.aborted += 1

    async def receive(self):
        if self._pieces:
            await asyncio.sleep(1)
            piece = self._pieces.pop(0)
            if piece is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(1e4 if self._leaves is None else max(0, self._leaves - now))
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    def wire(self, max_body=100):
        return Wire(self.scope, self.receive, self.send, max_body=max_body)


def test_a_body_is_joined_from_its_pieces():
    async def scene():
        return await Peer(b"one ", b"", b"two").wire().body()

    assert run(scene()) == b"one two"


@pytest.mark.parametrize(("size", "fits"), [(100, True), (101, False)])
def test_a_body_over_the_limit_is_refused_as_soon_as_it_is_over(size, fits):
    async def scene():
        wire = Peer(b"x" * 60, b"x" * (size - 60), b"").wire()
        if fits:
            assert len(await wire.body()) == size
        else:
            with pytest.raises(TooLarge):
                await wire.body()
            assert asyncio.get_running_loop().time() == 2

    run(scene())


async def leaving(wire):
    """Read the body beside the watch for the end, as a request does; return when the watch returned."""
    reading = asyncio.create_task(wire.body())
    try:
        async with asyncio.timeout(100):
            await wire.left()
        return asyncio.get_running_loop().time()
    except TimeoutError:
        return None
    finally:
        reading.cancel()
        await asyncio.wait([reading])


def test_a_client_that_leaves_within_its_body_is_seen_and_the_reading_waits_to_be_stopped():
    assert run(leaving(Peer(b"one", None).wire())) == 2


def test_a_client_that_leaves_after_its_body_is_seen():
    assert run(leaving(Peer(b"one", leaves=30).wire())) == 30


def test_a_client_that_stays_is_not_seen_to_leave():
    assert run(leaving(Peer(b"one").wire())) is None


def test_the_end_of_the_connection_after_the_response_was_handed_over_is_no_leaving():
    async def scene():
        wire = Peer(b"one", leaves=30).wire()
        asyncio.get_running_loop().call_later(
            20, lambda: tasks.append(asyncio.ensure_future(wire.write(b"", last=True)))
        )
        tasks = []
        assert await leaving(wire) is None

    run(scene())


@pytest.mark.parametrize("takes", [True, False])
def test_a_piece_is_written_at_once_only_between_the_head_and_the_last_piece_and_where_the_server_takes_it(takes):
    async def scene():
        peer, pieces = Peer(), []
        peer.scope["extensions"]["forebay.write"] = lambda data: pieces.append(data) or takes
        wire = peer.wire()
        assert not wire.write_now(b"too early")
        await wire.start(200, [])
        assert wire.write_now(b"now") == takes
        await wire.write(b"the last", last=True)
        assert not wire.write_now(b"too late")
        assert pieces == [b"now"]

    run(scene())


def test_where_the_server_cannot_write_at_once_every_piece_is_sent():
    async def scene():
        wire = Peer().wire()
        await wire.start(200, [])
        assert not wire.write_now(b"piece")

    run(scene())


def test_headers_are_found_by_name_and_the_address_is_the_peer_s():
    wire = Peer(headers=[(b"x-one", b"1"), (b"x-two", "é".encode())]).wire()
    assert wire.header(b"x-one") == "1"
    assert wire.header(b"x-two") == "Ã©"
    assert wire.header(b"x-three") is None
    assert wire.address == "10.0.0.1"


def test_an_abort_frees_the_socket_where_the_server_can_and_is_harmless_elsewhere():
    peer = Peer()
    peer.wire().abort()
    assert peer.aborted == 1
    del peer.scope["extensions"]
    peer.wire().abort()
    peer.scope["client"] = None
    assert peer.wire().address == ""
