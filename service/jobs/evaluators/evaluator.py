"""What an evaluator is: a pure function from a finished turn to a score. Run by kinds/evaluation.py, a step each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Label = Literal["pass", "fail", "not_applicable"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A finished turn as evaluators see it.

    Attributes:
        question: what the user asked.
        answer: the whole text, in which [n] cites the n-th passage, from 1.
        passages: the texts that the model was given, in that order, None for one that cannot be read any more; no
            tuple at all if the turn has searched for nothing.
        results: what its tools have answered, JSON.
    """

    question: str
    answer: str
    passages: tuple[str | None, ...] | None = None
    results: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement. `value` is from 0 to 1, higher for better; None where there was nothing to judge."""

    value: float | None
    label: Label


NOT_APPLICABLE = Score(None, "not_applicable")


@dataclass(frozen=True, slots=True)
class Evaluator:
    """A row. `judge` runs on the event loop: its work is bounded, whatever it is given (text.py cuts it)."""

    name: str
    judge: Callable[[Exchange], Score]


def share(good: int, of: int, passes: float) -> Score:
    """Return `good` of `of` as a score that passes from the share `passes` on; `of` is at least 1."""
    value = round(good / of, 4)
    return Score(value, "pass" if value >= passes else "fail")
