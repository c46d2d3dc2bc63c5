"""What every reranker must hold: the one in processes, and its twin for virtual time; and how the processes end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import RetrievalFailed
from service.ports import Document
from service.retrieval import rerank
from service.retrieval.inline import InlineReranker
from service.retrieval.rerank import ProcessReranker
from tests import virtual_loop
from tests.support import PATIENCE as SOON


def document(name, text, score=0.0):
    return Document(name, "", text, "demo", frozenset({"public"}), score)


FOUND = (document("a", "weather"), document("b", "risk"), document("c", "risk score"))


@asynccontextmanager
async def processes(workers=1):
    reranker = ProcessReranker(workers=workers)
    try:
        await reranker.warm()
        yield reranker
    finally:
        await reranker.close()


@asynccontextmanager
async def inline():
    yield InlineReranker()


@pytest.fixture(params=[(processes, asyncio.run), (inline, virtual_loop.run)], ids=["processes", "inline"])
def ranked(request):
    """Return the documents as a fresh reranker orders them."""
    opened, run = request.param

    def rank(question, documents):
        async def main():
            async with opened() as reranker:
                return await reranker.rerank(question, documents)

        return run(main())

    return rank


def test_the_best_passage_comes_first_with_a_score_of_its_own(ranked):
    found = ranked("what is the risk score?", FOUND)
    assert [one.id for one in found] == ["c", "b", "a"]
    assert found[0].score > found[1].score > found[2].score >= 0


def test_the_documents_stay_the_same_but_for_their_scores(ranked):
    found = ranked("risk", FOUND)
    assert {replace(one, score=0.0) for one in found} == set(FOUND)


def test_nothing_to_order_is_no_error(ranked):
    assert tuple(ranked("risk", [])) == ()


def test_equals_keep_the_order_of_the_first_stage(ranked):
    assert [one.id for one in ranked("risk", [document(name, "the same") for name in "cab"])] == ["c", "a", "b"]


@pytest.mark.parametrize("text", ["line\nbreak", "\ud800", '"]', "\u2028", "x" * 100_000, ""])
def test_no_text_confuses_it(ranked, text):
    assert len(ranked(text, [document("a", text), document("b", "risk")])) == 2


def test_both_give_the_same_scores():
    async def real():
        async with processes() as reranker:
            return await reranker.rerank("risk score", FOUND)

    async def twin():
        return await InlineReranker().rerank("risk score", FOUND)

    assert asyncio.run(real()) == virtual_loop.run(twin())


# --- the processes ------------------------------------------------------------------------------------------------

# Scores like the real one, but a question 'for ever' never ends and 'die' ends the process.
STUBBORN = """
import os, signal, time
from service.retrieval import scoring
real = scoring.score
def score(question, passages):
    while question == "ever": pass
    if question == "die": os.kill(os.getpid(), signal.SIGKILL)
    return real(question, passages)
scoring.score = score
scoring.serve()
"""


@pytest.fixture
def stubborn(tmp_path, monkeypatch):
    """Let the children run a scoring that can be told to hang or to die."""
    script = tmp_path / "scoring.py"
    folder = str(Path(rerank.__file__).parents[2])
    script.write_text(f"import sys; sys.path.insert(0, {folder!r})\n{STUBBORN}")
    monkeypatch.setattr(rerank.scoring, "__file__", str(script))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, within=SOON):
    """Wait until every process is gone, through descriptors that become readable when it ends."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], within)[0] and alive(pid):
                return False
        finally:
            os.close(descriptor)
    return True


def pids(reranker):
    return [slot.thing.pid for slot in reranker._processes._slots]


@pytest.mark.usefixtures("stubborn")
def test_a_process_that_runs_over_its_time_is_replaced_and_the_next_call_works():
    async def main():
        async with processes() as reranker:
            (first,) = pids(reranker)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reranker.rerank("ever", FOUND)
            found = await asyncio.wait_for(reranker.rerank("risk score", FOUND), SOON)
            return first, pids(reranker), found[0].id

    first, later, best = asyncio.run(main())
    assert best == "c"
    assert first not in later
    assert gone([first])


@pytest.mark.usefixtures("stubborn")
def test_a_process_that_dies_fails_its_call_and_no_other():
    async def main():
        async with processes(workers=2) as reranker:
            calls = [reranker.rerank("die" if n % 3 == 0 else "risk score", FOUND) for n in range(12)]
            return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), SOON)

    outcomes = asyncio.run(main())
    for n, outcome in enumerate(outcomes):
        assert isinstance(outcome, RetrievalFailed) if n % 3 == 0 else outcome[0].id == "c"


@pytest.mark.usefixtures("stubborn")
def test_closing_ends_what_runs_and_refuses_what_comes():
    async def main():
        async with processes() as reranker:
            running = asyncio.create_task(reranker.rerank("ever", FOUND))
            waiting = asyncio.create_task(reranker.rerank("risk", FOUND))
            await asyncio.sleep(0)
            await asyncio.wait_for(reranker.close(), SOON)
            after = reranker.rerank("risk", FOUND)
            return await asyncio.wait_for(asyncio.gather(running, waiting, after, return_exceptions=True), SOON)

    assert [type(outcome) for outcome in asyncio.run(main())] == [RetrievalFailed] * 3


PARENT = """
import asyncio, sys
from service.ports import Document
from service.retrieval import rerank
rerank.scoring.__file__ = sys.argv[1]
async def main():
    reranker = rerank.ProcessReranker(workers=2)
    await reranker.warm()
    print(*(slot.thing.pid for slot in reranker._processes._slots), flush=True)
    await reranker.rerank("ever", [Document("a", "", "text", "demo", frozenset())])
asyncio.run(main())
"""


@pytest.mark.usefixtures("stubborn")
def test_the_processes_end_with_a_parent_that_is_killed_even_while_they_compute():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, rerank.scoring.__file__],
        cwd=Path(rerank.__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        assert all(alive(pid) for pid in children)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(SOON)
        parent.stdout.close()
    assert gone(children)


def test_ctrl_c_in_the_terminal_leaves_the_processes_to_their_parent():
    async def main():
        async with processes() as reranker:
            return [os.getsid(pid) for pid in pids(reranker)]

    assert os.getsid(0) not in asyncio.run(main())
