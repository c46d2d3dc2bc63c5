"""model.stream: the producer. Decides who answers: the model that was asked, again if need be, or its fallback.

Everything in here happens before the first token. Once there is one, its provider is the only one who can go on.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from service.chat.attempts import ModelCall, Reply, about_the_request, attempt
from service.chat.degradation import MODEL
from service.chat.plan import FIRST_TOKEN
from service.errors import ProviderFailure, ProviderUnavailable
from service.runtime.admission import place
from telemetry.catalogue import PROVIDER_RETRIES_DENIED_TOTAL, PROVIDER_RETRIES_TOTAL, Attr

if TYPE_CHECKING:
    from service.chat.parts import Chosen
    from service.chat.turn import Turn
    from service.ports import ModelRequest
    from service.runtime.phase import phase

__all__ = ["Reply", "check", "generate"]

FOR_FALLBACK = 0.4  # of the first token's budget; the model that was asked has the rest


def check(chosen: Chosen) -> None:
    """Refuse at once what nobody would answer; raise ProviderUnavailable."""
    now = asyncio.get_running_loop().time()
    rests = [one.circuit.rest(now) for one in (chosen, chosen.fallback) if one is not None]
    if all(rests):
        raise ProviderUnavailable(retry_after=min(rests))


async def generate(turn: Turn, step: phase, chosen: Chosen, request: ModelRequest, tenant: str) -> Reply:
    """Call the model and send its text as it comes.

    Three limits are the step's: the first token, for all attempts together; the gap between tokens; the whole. They
    stand still while the reader is slow, and while the model's place is waited for: neither is the model's fault.

    Raises:
        ProviderFailure: the last attempt failed, and there is none to be made any more.
        ProviderUnavailable: nobody was asked: the circuit is open.
    """
    first_token = chosen.budgets.get("first_token", turn.plan.first_token)
    step.note(Attr.FIRST_TOKEN_BUDGET_MS, round(first_token * 1e3))
    step.note(Attr.GAP_BUDGET_MS, round(chosen.budgets.get("token_gap", turn.plan.token_gap) * 1e3))
    step.at(FIRST_TOKEN)
    step.expect(FIRST_TOKEN, first_token)
    call = ModelCall(turn, step, request, tenant)
    try:
        return await _answered(call, chosen)
    finally:
        step.note(Attr.ATTEMPTS, call.attempts)
        step.note(Attr.FALLBACK, turn.stand_in is not None)


async def _answered(call: ModelCall, chosen: Chosen) -> Reply:
    """Ask the model, and its fallback if it fails; in later rounds whoever stood in goes on."""
    chosen.retries.request(asyncio.get_running_loop().time())
    if call.turn.stand_in is not None:
        return await _ask_stand_in(call, call.turn.stand_in)
    fallback = _fallback(call, chosen)
    reserve = 0.0 if fallback is None else FOR_FALLBACK * call.step.left()
    try:
        return await _ask(call, chosen, reserve)
    except (ProviderFailure, ProviderUnavailable) as failure:
        hopeless = isinstance(failure, ProviderFailure) and about_the_request(failure)
        if fallback is None or call.begun or hopeless:
            raise
    call.turn.stand_in, call.turn.model = fallback, fallback.label
    await call.turn.degrade(MODEL, f"{chosen.label} does not answer; {fallback.label} does instead")
    return await _ask_stand_in(call, fallback)


def _fallback(call: ModelCall, chosen: Chosen) -> Chosen | None:
    """Return who could stand in: never once text was sent, nor while it does not answer either."""
    now = asyncio.get_running_loop().time()
    if chosen.fallback is None or call.turn.text or chosen.fallback.circuit.rest(now):
        return None
    return chosen.fallback


async def _ask_stand_in(call: ModelCall, stand_in: Chosen) -> Reply:
    call.request = stand_in.adapt(call.request)
    return await _ask(call, stand_in, 0.0)


async def _ask(call: ModelCall, chosen: Chosen, reserve: float) -> Reply:
    """Ask one provider, again where that is safe and leaves time; raise its last failure.

    Between two attempts the place is given back: whoever waits for it has not failed yet.
    """
    for number in count(1):
        try:
            async with place(
                call.turn, chosen.gate, call.tenant, instead_of=call.step, on_wait=call.turn.warn_waiting
            ) as held:
                return await attempt(call, chosen, held, reserve)
        except ProviderFailure as failure:
            pause = max(chosen.retries.pause(number), failure.retry_after or 0.0)
            denied = _why_not_again(call, chosen, failure, number, pause + reserve)
            if denied is not None:
                call.turn.observer.inc(PROVIDER_RETRIES_DENIED_TOTAL, chosen.provider, denied)
                raise
            call.turn.observer.inc(PROVIDER_RETRIES_TOTAL, chosen.provider, failure.kind)
        await asyncio.sleep(pause)
    raise AssertionError  # types: counting does not end


def _why_not_again(call: ModelCall, chosen: Chosen, failure: ProviderFailure, number: int, needed: float) -> str | None:
    """Return what forbids another attempt, None if it may be made; `needed`: seconds that must be left for it."""
    now = asyncio.get_running_loop().time()
    if call.begun or not failure.retry_safe:
        return "unsafe"
    if number >= chosen.max_attempts:
        return "attempts"
    if chosen.circuit.rest(now):
        return "circuit"
    if needed >= call.step.left():
        return "deadline"
    return None if chosen.retries.take(now) else "budget"
