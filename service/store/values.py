"""What the state database holds beside messages, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.ports import Status


@dataclass(frozen=True, slots=True)
class MessageOwner:
    """Whose message it is, how it stands, and which instance answers it."""

    tenant: str
    user: str
    status: Status
    instance_id: str


@dataclass(frozen=True, slots=True)
class Process:
    """A process among all that share a database; equal exactly if it is the same one.

    Attributes:
        host: one boot of one machine and one space of pids in it; "" if unknown: then only heartbeats tell.
        pid: its number in there.
        started: the kernel's start time, as the kernel writes it: a recycled pid has another.
    """

    host: str = ""
    pid: int = 0
    started: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """A serving process, as it wrote itself down. `heartbeat_at` is in Unix seconds."""

    id: str
    process: Process
    heartbeat_at: float


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is stored: `hash` is the SHA-256 of its text, in hexadecimal; `expires_at` in Unix seconds."""

    id: str
    hash: str
    tenant: str
    user: str
    roles: frozenset[str]
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """An escalation review that was opened. `reasons` are letters of the policy; `opened_at` in Unix seconds."""

    review_id: str
    case_id: str
    reasons: tuple[str, ...]
    opened_by: str
    opened_at: float
