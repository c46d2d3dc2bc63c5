"""Who is turned away at once, before anything is spent: while draining, over a rate or quota, with no hope of a place.

Called by flow.py for each turn, in the contract's order of refusals. What is reserved of the tenant's quota at this
door is settled by conduct.py at the turn's end, whatever that is.

Where several rows serve the id that was asked for, who answers depends on what the tenant may still spend today: its
cost is reserved for the row that was drawn by weight, or for a cheaper one if that does not fit or the day's budget is
nearly used up. The client is told by a warning (flow.py). It is no degradation: nothing is down, and whoever gives one
id or alias to several rows has said that each of them may answer, also where an alias means a model of another name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from service.errors import Overloaded, PhaseTimeout, Reason, ShuttingDown
from service.providers.prompt import estimate_tokens
from service.runtime.admission import ADMISSION
from service.runtime.quota import OverLimit
from telemetry.catalogue import LOG_CHEAPER_ROUTE, Attr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.chat.parts import Chosen
    from service.chat.turn import Ask, Turn
    from service.ports import Principal
    from service.providers.rows import Price
    from service.runtime.gate import Gate
    from service.runtime.quota import Allowance, Amounts, Charge, Quota

LIKELY_OUTPUT = 500  # tokens of an answer that nobody has bounded
LARGEST_GUESS = 0.1  # of a day's amount: what is only a guess reserves no more
NEARLY_USED_UP = 0.1  # of a day's cost is left: from here on a cheaper row answers, where there is one
PER = 1_000_000  # prices are for a million tokens


@dataclass(slots=True)
class Admittance:
    """Decides at the door, one per process.

    Attributes:
        requests: the gate of the request's own place.
        quota: what a tenant may use over time.
        daily: the most of each metered thing in a day.
        patience: seconds that a turn may wait for its own place.
        inner_patience: seconds that it may wait for its model's.
        draining: this process takes nothing new.
        drained_at: when it is gone, so that another one answers: loop time.
    """

    requests: Gate
    quota: Quota
    daily: Amounts = field(default_factory=dict)
    patience: float = 2.0
    inner_patience: float = 2.0
    draining: bool = False
    drained_at: float = 0.0

    def drain(self, seconds: float) -> None:
        """Take nothing new from now on; this process is gone in so many seconds."""
        self.draining, self.drained_at = True, asyncio.get_running_loop().time() + seconds

    async def admit(self, turn: Turn, wanted: Chosen) -> Chosen:
        """Let `turn` go on to wait for its place, and reserve what it is likely to use: nothing for a replay.

        Returns:
            Who is to answer: `wanted`, or one of its `others` that is cheaper.

        Raises:
            ShuttingDown: this process drains.
            RateLimited: a rate or quota is used up, or the tenant's own line is full or too long.
            Overloaded: the queue is full, or the first token could not come in the time that is left.
            PhaseTimeout: it could not come in the time that the client leaves, which is less than ours.
        """
        turn.where = ADMISSION.name
        if self.draining:
            raise self._refusal_of_drain()
        assert turn.principal is not None  # noqa: S101  (types: the flow authenticated before)
        assert turn.ask is not None  # noqa: S101
        prompt = _prompt_tokens(turn.ask)
        try:
            if turn.answered is None:
                chosen, charge = await self._reserve(turn.principal, turn.ask, wanted, prompt)
            else:
                chosen, charge = wanted, await self.quota.admit(turn.principal.tenant, turn.principal.user, None)
        except OverLimit as refusal:
            _announce(turn, refusal.allowance)
            raise
        turn.settle = lambda: charge.settle(_used(turn, chosen, prompt))
        _announce(turn, charge.allowance)
        if chosen is not wanted:
            _reroute(turn, wanted, chosen, turn.principal.tenant)
        self._expect_places(turn, chosen, turn.principal.tenant)
        return chosen

    async def admit_job(self, turn: Turn) -> None:
        """Let `turn` ask for a job, which reserves nothing yet: each answer that the job needs is admitted by itself.

        Raises:
            ShuttingDown: this process drains.
            RateLimited: a rate or quota is used up.
        """
        turn.where = ADMISSION.name
        if self.draining:
            raise self._refusal_of_drain()
        assert turn.principal is not None  # noqa: S101  (types: it was authenticated before)
        try:
            charge = await self.quota.admit(turn.principal.tenant, turn.principal.user, {})
        except OverLimit as refusal:
            _announce(turn, refusal.allowance)
            raise
        charge.settle({})
        _announce(turn, charge.allowance)

    async def _reserve(self, who: Principal, ask: Ask, wanted: Chosen, prompt: int) -> tuple[Chosen, Charge]:
        """Reserve for the first one whose cost fits; raise OverLimit if none does, or for another reason."""
        *sooner, last = await self._in_order(who.tenant, ask, wanted, prompt)
        for one in sooner:
            try:
                return one, await self.quota.admit(who.tenant, who.user, self._likely(ask, one, prompt))
            except OverLimit as refusal:
                if refusal.metered != "cost":
                    raise
        return last, await self.quota.admit(who.tenant, who.user, self._likely(ask, last, prompt))

    async def _in_order(self, tenant: str, ask: Ask, wanted: Chosen, prompt: int) -> Sequence[Chosen]:
        """Return who may answer: `wanted` before those that are cheaper, or after them if little is left of the day."""

        def cost(one: Chosen) -> float:  # of the same answer: what is reserved depends on how long one row allows it
            return _amounts(prompt, ask.max_output_tokens or LIKELY_OUTPUT, one.price)["cost"]

        if "cost" not in self.daily:
            return (wanted,)
        now = asyncio.get_running_loop().time()
        cheaper = [one for one in wanted.others if cost(one) < cost(wanted) and not one.circuit.rest(now)]
        cheaper.sort(key=cost)
        if cheaper and (await self.quota.left(tenant))["cost"] < NEARLY_USED_UP:
            return (*cheaper, wanted)
        return (wanted, *cheaper)

    def _refusal_of_drain(self) -> ShuttingDown:
        return ShuttingDown(retry_after=max(1.0, self.drained_at - asyncio.get_running_loop().time()))

    def _expect_places(self, turn: Turn, chosen: Chosen, tenant: str) -> None:
        """Refuse a turn whose queue is full, or whose waits and first token take longer than what is left."""
        try:
            self._expect_within(turn.left(), turn, chosen, tenant)
        except Overloaded as refusal:
            if turn.total.limit != "client" or refusal.reason is not Reason.DEADLINE:
                raise
            self._expect_within(inf, turn, chosen, tenant)  # would nobody have been in time?
            raise PhaseTimeout(ADMISSION.name, "client") from None

    def _expect_within(self, left: float, turn: Turn, chosen: Chosen, tenant: str) -> None:
        if turn.answered is not None:  # it is only told again
            self.requests.check(tenant, min(self.patience, left))
            return
        left -= chosen.gate.expected_sample()
        self.requests.check(tenant, min(self.patience, left))
        left -= self.requests.expected_wait(tenant)
        chosen.gate.check(tenant, min(self.inner_patience, left))

    def _likely(self, ask: Ask, chosen: Chosen, prompt: int) -> Amounts:
        """Return what the turn is likely to use: all that it may use, if that is known."""
        bound = min((limit for limit in (ask.max_output_tokens, chosen.max_output_tokens) if limit), default=None)
        known = _amounts(prompt, bound or 0, chosen.price)
        if bound is not None:
            return known
        guess = _amounts(0, LIKELY_OUTPUT, chosen.price)
        return {name: known[name] + min(guess[name], LARGEST_GUESS * self.daily.get(name, inf)) for name in known}


def _announce(turn: Turn, allowance: Allowance | None) -> None:
    if allowance is not None:
        turn.headers |= allowance.headers()


def _reroute(turn: Turn, wanted: Chosen, chosen: Chosen, tenant: str) -> None:
    """Take the cheaper model, and write down that it was not the one that was drawn."""
    turn.choose(chosen)
    turn.span.set(Attr.INSTEAD_OF, wanted.provider)
    turn.observer.log(
        LOG_CHEAPER_ROUTE, tenant=tenant, model=chosen.label, provider=chosen.provider, instead_of=wanted.provider
    )


def _prompt_tokens(ask: Ask) -> int:
    """Estimate what the client sends; what history and documents add is not known yet."""
    texts = [ask.message] if ask.messages is None else [message.content for message in ask.messages]
    return sum(map(estimate_tokens, texts))


def _used(turn: Turn, chosen: Chosen, prompt: int) -> Amounts:
    """Return what the turn has used, of each model that it asked.

    A provider that was broken off has not said how long the prompt was, and read it all the same.
    """
    prices = {one.label: one.price for one in (chosen.fallback, chosen) if one is not None}
    sums: dict[str, float] = {}
    for label, tokens in turn.tokens_by_model.items():
        for name, amount in _amounts(tokens.prompt or prompt, tokens.generated, prices[label]).items():
            sums[name] = sums.get(name, 0.0) + amount
    return sums


def _amounts(prompt: int, generated: int, price: Price) -> Mapping[str, float]:
    return {"tokens": prompt + generated, "cost": (prompt * price.prompt + generated * price.generated) / PER}
