"""The outside as one value: wall time, new ids, random numbers. No other file of the service asks the machine for them.

The composition root hands `real_world()` around; the tests hand around one that is a pure function of a seed, so that
a run can be repeated exactly. Within a coroutine, durations come from the event loop's own clock.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class World:
    """What would differ from run to run.

    Attributes:
        now: the wall clock, in Unix seconds. For what is stored or shown, never for a duration: it can jump.
        new_id: a new id for a prefix, such as `msg` → `msg_6f1c…`; unique, and a secret of nobody.
        random: a source of random numbers for jitter and sampling; never for keys.
    """

    now: Callable[[], float]
    new_id: Callable[[str], str]
    random: random.Random


def real_world() -> World:
    """Return the world as it is: the machine's clock, random ids of 122 bits, a randomly seeded generator."""
    return World(now=time.time, new_id=lambda prefix: f"{prefix}_{uuid.uuid4().hex}", random=random.Random())  # noqa: S311 -- jitter and sampling, not keys
