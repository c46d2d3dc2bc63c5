"""Reads the parameters of the simulated model out of its id: `sim:ttft_ms=50,tokens=100,interval_ms=10,seed=7`.

Called when a model id is resolved, so that a wrong one is refused before anything is done, and by the model itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from service.errors import InvalidRequest

_TOOL = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_TOKENS, _MILLISECONDS, _TIMES, _SEED = 100_000, 600_000, 100, 2**63 - 1


@dataclass(frozen=True, slots=True)
class SimParameters:
    """How a simulated answer goes. Times in seconds; positions count tokens from 0, None for never.

    Attributes:
        ttft: Until the first token.
        interval: Between two tokens; the default is 50 tokens a second.
        tokens: How long the answer is; None for as long as it takes to say what there is to say.
        seed: Another seed, other words.
        fail_at: The token in whose place the stream fails.
        stall_at: The token from which on there is silence.
        garbage_at: The token in whose place there is a malformed chunk.
        fail_times: How many attempts of a turn fail before their first token.
        status: What kind of failure: the HTTP status that a provider would have answered.
        tool: The tool that is asked for.
        invalid_answers: How many structured answers of a turn are invalid.
    """

    ttft: float = 0.2
    interval: float = 0.02
    tokens: int | None = None
    seed: int = 0
    fail_at: int | None = None
    stall_at: int | None = None
    garbage_at: int | None = None
    fail_times: int = 0
    status: int = 500
    tool: str = ""
    invalid_answers: int = 0


# parameter → field, lowest, highest, how many of the unit make one of the field's
_NUMBERS: dict[str, tuple[str, int, int, int]] = {
    "ttft_ms": ("ttft", 0, _MILLISECONDS, 1_000),
    "interval_ms": ("interval", 0, _MILLISECONDS, 1_000),
    "tokens": ("tokens", 1, _TOKENS, 1),
    "seed": ("seed", 0, _SEED, 1),
    "fail_at": ("fail_at", 0, _TOKENS, 1),
    "stall_at": ("stall_at", 0, _TOKENS, 1),
    "garbage_at": ("garbage_at", 0, _TOKENS, 1),
    "fail_times": ("fail_times", 0, _TIMES, 1),
    "status": ("status", 400, 599, 1),
    "invalid_answers": ("invalid_answers", 0, _TIMES, 1),
}


@lru_cache(maxsize=1_024)
def parse(model_id: str) -> SimParameters:
    """Return the parameters after the colon of `model_id`, the defaults where there is none.

    Raises:
        InvalidRequest: A parameter is unknown, given twice, not a number or out of its range; the detail names it.
    """
    _, colon, text = model_id.partition(":")
    given: dict[str, Any] = {}
    for pair in text.split(",") if colon else ():
        name, _, value = pair.strip().partition("=")
        field, parsed = _read(name, value)
        if field in given:
            raise _invalid(f"{name} is given twice")
        given[field] = parsed
    if "status" in given and not {"fail_at", "fail_times"} & given.keys():
        given["fail_at"] = 0  # a status without a place: every attempt fails at once
    return SimParameters(**given)


def _read(name: str, value: str) -> tuple[str, Any]:
    if name == "tool":
        if not _TOOL.fullmatch(value):
            raise _invalid("tool must be the name of a tool")
        return name, value
    if name not in _NUMBERS:
        raise _invalid(f"unknown parameter {name[:40]!r}")
    field, lowest, highest, unit = _NUMBERS[name]
    # isdecimal takes other scripts' digits too, and int() reads thousands of them slowly
    number = int(value) if value.isascii() and value.isdecimal() and len(value) <= len(str(_SEED)) else -1
    if not lowest <= number <= highest:
        raise _invalid(f"{name} must be a whole number from {lowest} to {highest}")
    return field, number / unit if unit > 1 else number


def _invalid(what: str) -> InvalidRequest:
    return InvalidRequest(f"The simulated model: {what}", field="model")
