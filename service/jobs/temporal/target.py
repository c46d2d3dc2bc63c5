"""Where Temporal is, and that it cannot be worked with: what is known without its client."""

from __future__ import annotations

from dataclasses import dataclass


class Unusable(Exception):
    """Temporal is not there or does not let itself be used; the text, ours, says why and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A namespace of a server. `address`: host:port."""

    address: str
    namespace: str = "default"
