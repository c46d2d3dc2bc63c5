"""citation: does the answer say where it has its claims from, and do its citations lead to a passage?

The form alone, as in the citation recall and precision of ALCE (Gao et al., "Enabling Large Language Models to Generate
Text with Citations", 2023), without the language model that asks there whether the passage supports the
sentence: grounding.py looks at the words. So a citation of the wrong passage passes here. A passage that did not fit
into the prompt counts as given. Sentences are told apart by their marks: "e.g. this" is two, the first too short to
count; a table or a block of code is taken for sentences.
"""

from __future__ import annotations

from service.jobs.evaluators.evaluator import NOT_APPLICABLE, Evaluator, Exchange, Score, share
from service.jobs.evaluators.text import claims, marks

PASSES = 0.5
"""Share of the claims that must cite: what introduces, sums up or only connects need not."""


def judge(turn: Exchange) -> Score:
    """Return the share of the claims that cite, and cite only what was given; one citation of nothing at all fails."""
    if turn.passages is None:
        return NOT_APPLICABLE
    given = range(1, len(turn.passages) + 1)
    dangling = any(number not in given for number in marks(turn.answer))
    made = claims(turn.answer)
    if not dangling and not (made and turn.passages):
        return NOT_APPLICABLE
    cited = [claim for claim in made if claim.cites and all(number in given for number in claim.cites)]
    score = share(len(cited), len(made) or 1, PASSES)
    return Score(score.value, "fail") if dangling else score


CITATION = Evaluator("citation", judge)
