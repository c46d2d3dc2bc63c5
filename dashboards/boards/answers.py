"""What are the answers worth, as far as the evaluators can tell?"""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import BAD, PER_SECOND, SECONDS, SHARE, WARN, Query, Says, lines, single
from dashboards.promql import quantile, rate, ratio
from telemetry import catalogue as rows

_PASS, _JUDGED, _KIND = 'label="pass"', 'label=~"pass|fail"', 'kind="evaluation"'
_DRAWN = rate(rows.EVALUATIONS_SAMPLED_TOTAL)

_AT_A_GLANCE = Row(
    "Are answers evaluated?",
    [
        single(
            "Judgements that pass",
            Says(
                "Share of the judgements that pass, of all evaluators; those with nothing to judge are left out.",
                "Below, which evaluator it is and since when.",
            ),
            Query(ratio(rate(rows.EVALUATIONS_TOTAL, _PASS), rate(rows.EVALUATIONS_TOTAL, _JUDGED))),
            unit=SHARE,
        ),
        single(
            "Answers drawn",
            Says(
                "Finished turns that were drawn to be evaluated, each second.",
                "0 with traffic: evaluation.sample_ratio is 0.",
            ),
            Query(_DRAWN),
            unit=PER_SECOND,
        ),
        single(
            "… and not queued",
            Says(
                "Share of these for which there was no room in the queue of jobs, or no database.",
                "The queue is half full: start workers, or lower evaluation.sample_ratio. Turns do not suffer.",
            ),
            Query(ratio(rate(rows.EVALUATIONS_SAMPLED_TOTAL, 'outcome=~"refused|failed"'), _DRAWN)),
            unit=SHARE,
            steps=((0.05, WARN), (0.5, BAD)),
        ),
        single(
            "Judged after, p95",
            Says("From a turn drawn to its evaluation begun.", "The queue of jobs is long: see there."),
            Query(quantile(0.95, rows.JOB_WAIT_SECONDS, _KIND)),
            unit=SECONDS,
        ),
    ],
)

_COURSE = Row(
    "What evaluators say",
    [
        lines(
            "Passed, by evaluator",
            Says(
                "Share of its judgements that an evaluator lets pass.",
                "A fall after a change of the model, the prompt or the documents: go back, then read the turns. What "
                "an evaluator cannot see stands in its own file, service/jobs/evaluators.",
            ),
            Query(
                ratio(
                    rate(rows.EVALUATIONS_TOTAL, _PASS, by="evaluator"),
                    rate(rows.EVALUATIONS_TOTAL, _JUDGED, by="evaluator"),
                ),
                "{{evaluator}}",
            ),
            unit=SHARE,
            top=1.0,
        ),
        lines(
            "Score: median and lowest tenth",
            Says(
                "The scores from 0 to 1; an exemplar leads to the trace of a judgement, and its link to the turn.",
                "The lowest tenth falls first: its exemplars are the turns to read.",
            ),
            Query(quantile(0.5, rows.EVALUATION_SCORE, by="evaluator"), "{{evaluator}} median"),
            Query(quantile(0.1, rows.EVALUATION_SCORE, by="evaluator"), "{{evaluator}} lowest tenth", exemplar=True),
            unit=SHARE,
            top=1.0,
        ),
        lines(
            "Judgements by label",
            Says(
                "Judgements each second; not applicable are turns without a search, or without a claim.",
                "Mostly not applicable: these turns do not retrieve, and the scores speak of few.",
            ),
            Query(rate(rows.EVALUATIONS_TOTAL, by="evaluator, label"), "{{evaluator}} {{label}}"),
            unit=PER_SECOND,
        ),
        lines(
            "Answers drawn, by what became of it",
            Says(
                "Queued, refused by a full queue, or lost because the database failed or the process ended.",
                "Refused: start workers, or lower evaluation.sample_ratio.",
            ),
            Query(rate(rows.EVALUATIONS_SAMPLED_TOTAL, by="outcome"), "{{outcome}}"),
            unit=PER_SECOND,
        ),
    ],
)

BOARD = Board(
    "forebay-answers",
    "Forebay / Answers",
    "What the answers are worth: the judgements of the evaluators on a share of the finished turns.",
    (_AT_A_GLANCE, _COURSE),
)
