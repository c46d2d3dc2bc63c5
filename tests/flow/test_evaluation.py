"""Finished turns that are evaluated: what is found, and told of it, and whose answers may be asked about."""

import asyncio
import json
from functools import partial

import pytest

from service.api.openai_compat import OpenAIDoor
from service.jobs.evaluators import EVALUATORS
from service.ports import Finish, Text
from telemetry import catalogue as rows
from telemetry.catalogue import EVALUATION_RESULT, Attr
from tests.flow.completions import ASKED, OpenAIClient
from tests.flow.evaluating import judged
from tests.flow.house import ANN, BEN, EVE, in_house
from tests.flow.jobs import ask, ended, job_id_of
from tests.flow.parts import Says
from tests.flow.tools import Asks, call

NAMES = [evaluator.name for evaluator in EVALUATORS]


def answering(house, text):
    """Let the model say `text`."""
    house.routes.add("simulated", Says(Text(text), Finish("stop")))


# --- judging -------------------------------------------------------------------------------------------------------


def test_a_sampled_turn_is_judged_by_every_evaluator_and_told_in_metrics_and_in_the_trace():
    async def scenario(house):
        house.work()
        await house.chat(model="sim:tokens=100")
        job, scores = await judged(house)
        assert list(scores) == NAMES
        assert scores["grounding"] == (1.0, "pass")
        assert scores["citation"][1] == "pass"
        assert (job.user, job.priority, job.progress) == (ANN.user, 0, 1.0)
        return house.recorder, (await house.message()).message_id, scores

    seen, message_id, scores = in_house(scenario, sample_ratio=1.0)
    for name, (value, label) in scores.items():
        assert seen.value(rows.EVALUATIONS_TOTAL, name, label) == seen.value(rows.EVALUATIONS_TOTAL, name) == 1
        assert seen.total(rows.EVALUATION_SCORE, name) == value
    told = {span["attributes"][Attr.JOB_STEP]: span["events"] for span in seen.named("job.step")}
    assert told == {
        name: [
            (
                EVALUATION_RESULT,
                {
                    Attr.GEN_AI_EVALUATION_NAME: name,
                    Attr.GEN_AI_EVALUATION_LABEL: label,
                    Attr.GEN_AI_EVALUATION_SCORE: value,
                    Attr.GEN_AI_RESPONSE_ID: message_id,
                },
            )
        ]
        for name, (value, label) in scores.items()
    }
    assert seen.span("job evaluation")["links"] == [seen.span("POST /chat/stream")["trace_id"]]


def test_an_answer_that_is_made_up_fails_and_one_with_a_citation_of_nothing_too():
    async def scenario(house):
        house.work()
        answering(house, "Case C-1042 was settled for 9731 guilders by a travelling acrobat from Ruritania [77].")
        await house.chat()
        _, scores = await judged(house)
        assert scores == {"citation": (0.0, "fail"), "grounding": (0.0, "fail")}

    in_house(scenario, sample_ratio=1.0)


def test_what_a_tool_has_answered_is_evidence_too():
    async def scenario(house):
        house.work()
        house.routes.add("simulated", Asks([call("case_lookup", case_id="C-1042")]))
        await house.chat("What is the status of the case?")
        await judged(house)
        message = await house.message()
        turn = await house.store.jobs.finished_turn("demo", "ann", message.message_id)
        assert [json.loads(result)["case_id"] for result in turn.results] == ["C-1042"]

    in_house(scenario, sample_ratio=1.0)


def test_a_turn_without_a_search_is_not_applicable():
    async def scenario(house):
        house.work()
        body = {"model": "sim:tokens=20", "messages": ASKED, "stream": True}
        await house.connect(OpenAIClient(body), partial(OpenAIDoor, world=house.world, retrieval=False))
        _, scores = await judged(house)
        assert scores == dict.fromkeys(NAMES, (None, "not_applicable"))
        return house.recorder

    seen = in_house(scenario, sample_ratio=1.0)
    assert seen.value(rows.EVALUATION_SCORE) == 0
    assert seen.value(rows.EVALUATIONS_TOTAL) == len(NAMES)


def test_no_text_of_the_turn_is_kept_by_the_evaluation():
    async def scenario(house):
        house.work()
        answering(house, "The xylophone of Zanzibar was stolen [1].")
        await house.chat("Who stole the quuxophone?")
        job, _ = await judged(house)
        tables = ("jobs", "job_steps", "job_events")
        kept = [str(row) for name in tables for row in house.driver._db.execute(f"SELECT * FROM {name}")]
        told = [str(one) for one in (*house.recorder.spans, *house.recorder.logs)]
        assert any(job.job_id in text for text in kept)
        assert not [text for text in kept + told if "xylophone" in text or "quuxophone" in text]

    in_house(scenario, sample_ratio=1.0)


# --- asked for -----------------------------------------------------------------------------------------------------


def body_for(message_id):
    return {"kind": "evaluation", "input": {"message_id": message_id}}


def test_a_user_has_an_answer_of_its_own_evaluated_at_jobs():
    async def scenario(house):
        house.work()
        await house.chat(model="sim:tokens=60")
        message_id = (await house.message()).message_id
        job, result = await ended(house, job_id_of(await ask(house, body_for(message_id))))
        assert (job.status, result["message_id"]) == ("completed", message_id)
        assert [score["evaluator"] for score in result["scores"]] == NAMES

    in_house(scenario)


@pytest.mark.parametrize("key", [BEN.user, EVE.user])
def test_nobody_has_the_answer_of_another_user_or_tenant_evaluated(key):
    async def scenario(house):
        house.work()
        await house.chat(model="sim:tokens=5")
        message_id = (await house.message()).message_id
        job_id = job_id_of(await ask(house, body_for(message_id), key=f"Bearer {key}"))
        job, result = await ended(house, job_id, "rival" if key == EVE.user else "demo")
        assert (job.status, job.error_code, result) == ("failed", "not_found", None)
        assert house.recorder.value(rows.EVALUATIONS_TOTAL) == 0

    in_house(scenario)


def test_the_question_and_what_did_not_complete_cannot_be_evaluated():
    async def scenario(house):
        house.work()
        await house.chat(model="sim:fail_at=2")
        messages = await house.store.messages(ANN.tenant, ANN.user, "s1")
        for message in messages:
            job, _ = await ended(house, job_id_of(await ask(house, body_for(message.message_id))))
            assert (job.status, job.error_code) == ("failed", "not_found")

    in_house(scenario)


def test_a_passage_that_may_not_be_read_any_more_is_not_judged_by():
    async def scenario(house):
        house.work()
        answering(house, "The premium was paid on time by the tenant [1].")
        client = await house.chat()
        (first, *_) = client.event("retrieval_completed")["documents"]
        sealed = "UPDATE documents SET labels = '[\"sealed\"]' WHERE id = ?"
        house.retriever._part._index._db.execute(sealed, (first["id"],))
        _, scores = await judged(house)
        assert scores == {"citation": (1.0, "pass"), "grounding": (None, "not_applicable")}

    in_house(scenario, sample_ratio=1.0)


def test_a_cancelled_evaluation_ends_between_two_evaluators():
    async def scenario(house):
        await house.chat(model="sim:tokens=20")
        message_id = (await house.message()).message_id
        job_id = job_id_of(await ask(house, body_for(message_id)))
        house.retriever.becomes(seconds=5.0, only="fetch")
        house.work()
        await asyncio.sleep(2.0)
        assert await house.workforce.desk.cancel("demo", job_id) == "running"
        job, _ = await ended(house, job_id)
        assert job.status == "cancelled"
        assert house.recorder.value(rows.EVALUATIONS_TOTAL) == 0

    in_house(scenario)
