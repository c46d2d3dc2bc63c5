"""What several payloads of one read say."""

import pytest

from service.errors import ProviderFailure
from service.ports import Finish
from service.providers.failures import malformed
from service.providers.upstream import at_once


def read(payload: bytes):
    if payload == b"?":
        raise malformed()
    return {b"": (), b"end": (Finish("stop"),)}.get(payload, (payload.decode(),))


def test_what_one_read_brought_is_said_at_once_and_nothing_is_nothing():
    assert list(at_once(read, [b"a", b"", b"b", b"end"])) == [["a", "b", Finish("stop")]]
    assert list(at_once(read, [b"", b""])) == []


def test_what_came_before_a_failure_is_said_before_it():
    said = at_once(read, [b"a", b"b", b"?", b"c"])
    assert next(said) == ["a", "b"]
    with pytest.raises(ProviderFailure):
        next(said)


def test_a_failure_alone_is_a_failure_at_once():
    with pytest.raises(ProviderFailure):
        next(at_once(read, [b"?"]))
