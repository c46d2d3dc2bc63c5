"""What a kind of job is: a typed input, steps with limits, and a flow that reads from top to bottom.

A flow is an async function that calls `job.step(...)`; whatever it does apart from that must be a pure function of its
input and of what its steps returned, because after a crash it runs again from the top, and steps that have finished
only return what they returned before. To add a kind: a file in kinds/, a row in its __init__.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

if TYPE_CHECKING:
    from service.jobs.means import Means
    from service.ports import Principal


@dataclass(frozen=True, slots=True)
class StepUse:
    """What a step may use.

    Attributes:
        principal: who asked for the job: everything is done with their rights, as the policy has them now.
        key: the same whenever this step of this job is tried again: a side effect carries it.
        means: models, the index, the policy.
        note: tells how far the step is, from 0 to 1.
    """

    principal: Principal
    key: str
    means: Means
    note: Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """A step: what it does with a JSON value, and its limits.

    Attributes:
        name: as spans and events show it.
        run: returns a JSON value, its checkpoint. May be run again, after a crash in the middle too.
        budget: seconds for one attempt.
        attempts: how often a failure that may pass is tried again, the first attempt included.
    """

    name: str
    run: Callable[[StepUse, Any], Awaitable[Any]]
    budget: float
    attempts: int = 3


class Job(Protocol):
    """A job as its flow sees it."""

    async def step(self, step: Step, given: Any = None, *, part: str = "", share: float = 0.0) -> Any:
        """Run `step` and write its checkpoint; return its output, at once if it has finished before.

        Args:
            step: which one.
            given: what it works on, a JSON value.
            part: tells apart several runs of one step.
            share: how much of the whole job is done with it, from 0 to 1.
        """
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A row: what can be asked for as a job.

    Attributes:
        name: in the API and as a label.
        input: its shape; unknown fields are refused.
        flow: does it; returns its result, a JSON value.
        total: seconds from the first claim to the end, whatever happens in between.
        concurrency: how many of them one process works on at once.
    """

    name: str
    input: type[BaseModel]
    flow: Callable[[Job, Any], Awaitable[Any]]
    total: float
    concurrency: int
