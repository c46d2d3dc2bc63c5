"""How far a connection's parser has come, and what its callbacks raise to stop it. For protocol.py."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http import HTTPStatus


class Reading(Enum):
    """How far the request that is being read has come."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class Refused(Exception):
    """Stops the parser; raised in its callbacks, which must not write to the connection themselves."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class PipelineFull(Exception):
    """A second request was pipelined behind one that already waits."""
