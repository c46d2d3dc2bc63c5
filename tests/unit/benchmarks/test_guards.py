"""What a turn and a token may cost, in counts: no clock is asked, so a regression fails here on every machine alike.

Counted over turns of few and of many tokens: what is the same in both is the turn's, what grows is the token's. `chat`
is a turn with retrieval through `/chat/stream`, `relay` one without through `/v1/chat/completions`. A number that must
rise is raised here, with the reason in the commit; one that has fallen is lowered, so that it stays so.
"""

import pytest

from service.providers.openai_chunks import ChunkReader
from service.providers.sse import SseDecoder
from tests.unit.benchmarks.counting import calls_of, counted, memory_growth

FEW, MANY = 100, 300  # tokens
SLACK = {"calls": 1.08}  # versions of Python differ in what is a call of its own: a comprehension, a property

TURN = {
    "chat": {
        "spans": 13,
        "metric updates": 60,
        "log lines": 1,
        "timers": 23,
        "tasks": 3,
        "statements": 10,
        "writes": 2,
        "calls": 5100,
    },
    "relay": {
        "spans": 11,
        "metric updates": 48,
        "log lines": 1,
        "timers": 18,
        "tasks": 3,
        "statements": 7,
        "writes": 2,
        "calls": 935,
    },
}
TOKEN = {
    "spans": 0,
    "metric updates": 0,
    "log lines": 0,
    "timers": 1,  # the model's own, between two words
    "tasks": 0,
    "statements": 0,
    "writes": 1,
    "calls": 34,
}
AT_ONCE, OF_MANY = 50, 2  # calls for each of so many tokens that come in one read
CHUNK = 3  # calls that read one chunk of a provider
BLOCKS = 0.05  # of memory, for each token of an answer that is being told: its text is all that may be kept


def held(what, seen, allowed, of_what):
    """Fail with the two numbers."""
    assert seen <= allowed * SLACK.get(what, 1.0), f"{seen:g} {what} for each {of_what}, of {allowed} allowed"


@pytest.mark.parametrize(("what", "allowed"), TOKEN.items())
@pytest.mark.parametrize("way", TURN)
def test_a_token_costs_no_more_than_this(way, what, allowed):
    held(what, of_token(way, what), allowed, f"token, {way}")


@pytest.mark.parametrize("way", TURN)
def test_a_token_that_comes_with_many_costs_next_to_nothing_of_its_own(way):
    few, many = (counted(way, tokens, AT_ONCE)["calls"] for tokens in (FEW, MANY))
    held("calls", (many - few) / (MANY - FEW), OF_MANY, f"token of {AT_ONCE} at once, {way}")


@pytest.mark.parametrize(("way", "what"), [(way, what) for way, costs in TURN.items() for what in costs])
def test_a_turn_costs_no_more_than_this(way, what):
    held(what, counted(way, FEW)[what] - FEW * of_token(way, what), TURN[way][what], f"turn, {way}")


def of_token(way, what):
    return (counted(way, MANY)[what] - counted(way, FEW)[what]) / (MANY - FEW)


def test_a_chunk_of_a_provider_costs_no_more_than_this():
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"token "},"finish_reason":null}]}\n\n'
    decoder, reader = SseDecoder(), ChunkReader()
    seen = calls_of(lambda: [reader.read(payload) for _ in range(MANY) for payload in decoder.feed(chunk)])
    held("calls", seen / MANY, CHUNK, "chunk of a provider")


@pytest.mark.parametrize("way", TURN)
def test_nothing_but_its_text_is_kept_of_a_token(way):
    kept = memory_growth(way, FEW, MANY)
    seen = kept.total() / (MANY - FEW)
    where = [line for line, _ in kept.most_common(3)]
    assert seen <= BLOCKS, f"{seen:g} blocks of memory kept for each token, of {BLOCKS} allowed: {where}"
