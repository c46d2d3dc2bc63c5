"""The outside as one value: wall time, new ids, random numbers. No other file of the service asks the machine for them.

The composition root hands `real_world()` around; the tests hand around one that is a pure function of a seed, so that
a run can be repeated exactly. Within a coroutine, durations come from the event loop's own clock.
"""

from __future__ import annotations

import random
import time
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
    """Return the world as it is: the machine's clock, random ids of 128 bits, a randomly seeded generator.

    Ids come from a generator of their own. Each `uuid4` asks the system for bytes and hands the interpreter's lock to
    another thread meanwhile, the database's for one: 8 % of a short relayed request's CPU for its three ids.
    """
    ids = random.Random()  # noqa: S311 -- unique, and a secret of nobody
    return World(
        now=time.time,
        new_id=lambda prefix: f"{prefix}_{ids.getrandbits(128):032x}",
        random=random.Random(),  # noqa: S311 -- jitter and sampling, not keys
    )
