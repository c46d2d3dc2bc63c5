"""grounding: are the words of the answer those of its sources?

Of each claim the K-Precision of Adlakha et al. ("Evaluating Correctness and Faithfulness of Instruction-Following
Models for Question Answering", 2023): the share of its words that stand in what the model was given, a token overlap
that they found to correlate highly with human judgement. The score is then the share of the claims that are supported,
as in the faithfulness of RAGAS (Es et al., "RAGAS: Automated Evaluation of Retrieval Augmented Generation", 2023).

What it cannot see: that a sentence turns its source round ("was not recalled"), or joins true words to something false.
What it takes for unfounded: paraphrases, inflections beyond a plural, words of another language than the source's, what
follows by reckoning, and every honest "the documents do not say". Languages that set no spaces are one word a phrase to
it. So it is for the course over many turns, and for finding the turns to read; one turn's score proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.jobs.evaluators.evaluator import NOT_APPLICABLE, Evaluator, Exchange, Score, share
from service.jobs.evaluators.text import claims, numbers, read, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.jobs.evaluators.text import Claim, Words

SUPPORTED = 0.5
"""Share of a claim's words that its sources must have."""

PASSES = 0.7
"""Share of the claims that must be supported: an opening and an end of the model's own are let pass."""


def judge(turn: Exchange) -> Score:
    """Return the share of the claims that their sources support: those cited, or all if none is, and the tools'."""
    passages = read(turn.passages or ())
    results = [known for known in read(turn.results) if known is not None]
    everything = [known for known in passages if known is not None] + results
    if not everything:
        return NOT_APPLICABLE
    asked = words(turn.question)
    judged = []
    for claim in claims(turn.answer):
        cited = [passages[n - 1] for n in claim.cites if 1 <= n <= len(passages)]
        found = [known for known in cited if known is not None]
        if len(found) == len(cited):  # of what rests on a lost passage nobody knows
            judged.append(_is_supported(claim, found + results if claim.cites else everything, asked))
    return share(sum(judged), len(judged), PASSES) if judged else NOT_APPLICABLE


def _is_supported(claim: Claim, sources: Sequence[Words], asked: Words) -> bool:
    """A number that neither source nor question has is made up, or at least reckoned, whatever stands around it."""
    known = {word for word in claim.words if any(word in source for source in sources)}
    return numbers(claim.words) <= known | asked and len(known) >= SUPPORTED * len(claim.words)


GROUNDING = Evaluator("grounding", judge)
