"""The simulated model, in virtual time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import aclosing
from dataclasses import replace

import jsonschema_rs
import pytest

from service.errors import ProviderFailure, ProviderRateLimited
from service.ports import ChatMessage, Delta, Document, Finish, ModelRequest, Text, ToolCall, ToolCallDelta, ToolSpec
from service.providers.prompt import assemble
from service.providers.simulated import SimulatedModel
from tests.virtual_loop import run

CASE = Document(
    "doc-1",
    "Case C-1042",
    "Case C-1042 is open. The weather was fine. The report came 12 days late.",
    "demo",
    frozenset(),
)
POLICY = Document("doc-2", "Policy", "A late report needs an escalation review. Lunch is at noon.", "demo", frozenset())
QUESTION = "Summarize case C-1042 and whether the late report needs escalation review."
DOCUMENTS = (CASE, POLICY)
LOOKUP = ToolSpec(
    "case_lookup",
    "Finds a case.",
    {"type": "object", "properties": {"case_id": {"type": "string"}}, "required": ["case_id"]},
)


def asked(model: str = "sim", **more) -> ModelRequest:
    return ModelRequest(model, assemble("s", DOCUMENTS, [], QUESTION), documents=DOCUMENTS, **more)


def hear(request: ModelRequest) -> tuple[list[Delta], list[float], ProviderFailure | None]:
    """Return the deltas, when each came, and the failure if one did."""
    deltas: list[Delta] = []
    times: list[float] = []

    async def scenario() -> ProviderFailure | None:
        try:
            async with aclosing(SimulatedModel("simulated").stream(request)) as stream:
                async for said in stream:
                    deltas.extend(said)
                    times.extend([asyncio.get_running_loop().time()] * len(said))
        except ProviderFailure as failure:
            return failure
        return None

    return deltas, times, run(scenario())


def text_of(request: ModelRequest) -> str:
    return "".join(delta for delta in hear(request)[0] if isinstance(delta, Text))


def tokens_of(request: ModelRequest) -> int:
    return sum(isinstance(delta, Text) for delta in hear(request)[0])


def test_the_answer_quotes_the_facts_nearest_to_the_question_and_cites_them():
    text = text_of(asked())
    assert "Case C-1042 is open [1]." in text
    assert "The report came 12 days late [1]." in text
    assert "A late report needs an escalation review [2]." in text
    assert "weather" not in text


def test_of_a_question_it_reads_as_much_as_a_message_may_hold():
    longest = "late report " * 4000
    texts = [
        text_of(ModelRequest("sim", (ChatMessage("user", longest[:length] + "Lunch?"),))) for length in (32_000, 48_000)
    ]
    assert texts[0] == texts[1] != text_of(ModelRequest("sim", (ChatMessage("user", longest[:31_000] + "Lunch?"),)))


def test_without_documents_it_says_so_and_cites_nothing():
    text = text_of(ModelRequest("sim", (ChatMessage("user", "Hello"),)))
    assert text.startswith("No document was found")
    assert "[" not in text


def test_tokens_come_when_the_parameters_say():
    _, times, _ = hear(asked("sim:ttft_ms=50,tokens=4,interval_ms=10"))
    assert times[:4] == pytest.approx([0.05, 0.06, 0.07, 0.08])


def test_an_answer_has_as_many_tokens_as_it_is_told():
    for tokens in (1, 7, 1000):
        assert tokens_of(asked(f"sim:ttft_ms=0,interval_ms=0,tokens={tokens}")) == tokens


def test_an_answer_that_is_longer_than_the_request_allows_ends_for_its_length():
    deltas, _, _ = hear(asked("sim:tokens=10,interval_ms=0", max_output_tokens=3))
    assert sum(isinstance(delta, Text) for delta in deltas) == 3
    assert Finish("length") in deltas


def test_the_usage_comes_last_and_counts_the_tokens_sent():
    assert hear(asked("sim:tokens=10,interval_ms=0"))[0][-1].generated_tokens == 10


def test_the_text_is_the_same_for_the_same_seed_and_another_one_for_another():
    texts = {text_of(asked(f"sim:tokens=200,interval_ms=0,seed={seed}")) for seed in range(5)}
    assert len(texts) == 5
    assert text_of(asked("sim:tokens=200,interval_ms=9,seed=3")) in texts


def test_the_text_is_the_same_in_every_process():
    code = (
        "from service.providers import simulated_text as t\n"
        "c = t.generator('q', (), 1)\n"
        "parts = t.sentences('q', (), c)\n"
        "print(parts, [w for w, _ in zip(t.endless(parts, c), range(300))])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


@pytest.mark.parametrize("position", [0, 3, 10])
def test_it_fails_at_its_token(position: int):
    deltas, _, failure = hear(asked(f"sim:tokens=10,interval_ms=0,fail_at={position}"))
    assert len(deltas) == position
    assert (failure.kind, failure.retry_safe) == ("5xx", True)


def test_a_status_says_what_kind_of_failure_it_is():
    assert isinstance(hear(asked("sim:fail_at=2,status=429"))[2], ProviderRateLimited)
    assert hear(asked("sim:status=401"))[2].kind == "4xx"


def test_a_malformed_chunk_comes_at_its_token():
    deltas, _, failure = hear(asked("sim:tokens=9,interval_ms=0,garbage_at=2"))
    assert (len(deltas), failure.kind) == (2, "malformed")


def test_the_first_attempts_fail_before_their_first_token_and_then_it_works():
    outcomes = [hear(asked("sim:fail_times=2,interval_ms=0", attempt=attempt)) for attempt in (1, 2, 3)]
    assert [bool(deltas) for deltas, _, _ in outcomes] == [False, False, True]
    assert hear(asked("sim:fail_times=2,interval_ms=0", attempt=1, round=1))[2] is None


def test_silence_lasts_longer_than_any_budget_and_ends():
    deltas, _, failure = hear(asked("sim:ttft_ms=0,interval_ms=0,stall_at=2"))
    assert (len(deltas), failure.kind) == (2, "timeout")


def test_a_stream_without_pauses_lets_others_run():
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> None:
        task = asyncio.create_task(other())
        async with aclosing(SimulatedModel("s").stream(asked("sim:ttft_ms=0,interval_ms=0,tokens=6400"))) as stream:
            assert len([delta async for said in stream for delta in said]) > 6400
        task.cancel()
        await asyncio.wait({task})

    run(scenario())
    assert turns >= 99


def test_a_tool_is_asked_for_after_the_opening_and_the_answer_goes_on_with_its_result():
    request = asked("sim:tool=case_lookup,interval_ms=0", tools=(LOOKUP,))
    first, _, _ = hear(request)
    call = next(delta for delta in first if isinstance(delta, ToolCallDelta))
    assert (call.name, json.loads(call.arguments)) == ("case_lookup", {"case_id": "C-1042"})
    assert Finish("tool_calls") in first

    told = (
        ChatMessage("assistant", "", (ToolCall(call.id, call.name, call.arguments),)),
        ChatMessage("tool", '{"status": "open", "days_late": 12}', tool_call_id=call.id),
    )
    opening, rest = text_of(request), text_of(replace(request, messages=request.messages + told, round=1))
    assert rest.startswith("case_lookup says: status open, days_late 12. ")
    assert opening + rest.removeprefix("case_lookup says: status open, days_late 12. ") == text_of(asked())


def test_positions_and_lengths_count_over_the_whole_answer_when_a_tool_is_asked_for():
    model = "sim:tool=case_lookup,tokens=10,interval_ms=0,fail_at=7"
    assert tokens_of(asked(model)) == 5
    deltas, _, failure = hear(asked(model, round=1))
    assert (len(deltas), failure.kind) == (2, "5xx")


SCHEMA = {"type": "object", "properties": {"summary": {"type": "string"}, "case_id": {"type": "string"}}}


def test_a_structured_answer_is_an_instance_of_its_schema_made_of_the_documents_facts():
    answer = json.loads(text_of(asked("sim:interval_ms=0", response_schema=SCHEMA)))
    jsonschema_rs.validate(SCHEMA, answer)
    assert answer == {"summary": "Case C-1042 is open [1].", "case_id": "C-1042"}


def test_the_first_structured_answers_are_invalid_and_count_from_the_first_that_arrives():
    model = "sim:interval_ms=0,fail_times=1,invalid_answers=1"
    assert hear(asked(model, response_schema=SCHEMA, attempt=1))[2] is not None
    with pytest.raises(ValueError):
        json.loads(text_of(asked(model, response_schema=SCHEMA, attempt=2)))
    assert json.loads(text_of(asked(model, response_schema=SCHEMA, attempt=3)))
