"""Evidence: what may be found, what must be cited, and what happens when there is none."""

import pytest

from service.errors import RetrievalFailed
from service.ports import Document, Finish, Text
from telemetry import catalogue as rows
from telemetry.catalogue import Attr
from tests.flow.house import DOCUMENTS, EVE, in_house
from tests.flow.parts import Says, Slowly

REQUIRED = {"grounding": "required"}
NOTHING = "xylophone zeppelin"  # of which no document speaks


def test_a_grounded_answer_cites_what_was_found():
    async def scenario(house):
        return await house.chat(ask=REQUIRED)

    client = in_house(scenario)
    found = [document["id"] for document in client.event("retrieval_completed")["documents"]]
    assert client.event("retrieval_completed")["count"] == len(found) > 1
    assert set(client.event("message_completed")["citations"]) <= set(found)
    assert client.event("message_completed")["citations"]


def test_where_grounding_is_required_no_hit_is_an_error_before_the_model_is_asked():
    async def scenario(house):
        client = await house.chat(NOTHING, ask=REQUIRED)
        assert client.types == ["message_start", "error"]
        assert (client.event("error")["code"], client.event("error")["phase"]) == ("no_evidence", "retrieval.query")
        assert not house.model.calls
        assert (await house.message()).status == "failed"

    in_house(scenario)


def test_where_grounding_is_required_an_answer_without_a_citation_is_an_error():
    async def scenario(house):
        house.model._model = Says(Text("Take my word for it [99]."), Finish("stop"))
        client = await house.chat(ask=REQUIRED)
        assert (client.event("error")["code"], client.event("error")["phase"]) == ("no_evidence", "finalize")
        assert (await house.message()).status == "failed"
        assert house.requests("errored") == 1

    in_house(scenario)


def test_where_grounding_is_required_a_failed_retrieval_is_an_error():
    async def scenario(house):
        house.retriever.becomes(error=RetrievalFailed())
        client = await house.chat(ask=REQUIRED)
        assert client.types == ["message_start", "error"]
        assert client.event("error")["code"] == "retrieval_failed"
        assert house.recorder.value(rows.DEGRADATIONS_TOTAL) == 0

    in_house(scenario)


def test_where_grounding_is_preferred_no_hit_is_a_warning_and_no_degradation():
    async def scenario(house):
        client = await house.chat(NOTHING)
        assert client.warnings() == ["no_evidence"]
        assert client.event("retrieval_completed") == {"count": 0, "documents": [], "degraded": False}
        assert client.event("message_completed")["citations"] == []
        assert house.requests("completed") == 1
        assert house.recorder.span("rerank")["attributes"][Attr.OUTCOME] == "skipped"

    in_house(scenario)


def test_where_grounding_is_preferred_a_failed_retrieval_is_a_warning_and_a_degradation():
    async def scenario(house):
        house.retriever.becomes(error=RetrievalFailed())
        client = await house.chat()
        assert client.warnings() == ["retrieval_degraded"]
        assert client.event("retrieval_completed")["degraded"] is True
        assert client.types[-1] == "message_completed"
        assert house.requests("degraded") == 1
        assert house.recorder.span("retrieval.query")["attributes"][Attr.OUTCOME] == "error"

    in_house(scenario)


def test_a_failed_reranker_is_a_warning_and_a_degradation():
    async def scenario(house):
        house.reranker.becomes(error=RetrievalFailed())
        client = await house.chat(ask=REQUIRED)
        assert client.warnings() == ["rerank_skipped"]
        assert client.event("message_completed")["citations"]
        assert house.requests("degraded") == 1

    in_house(scenario)


def test_the_default_of_the_settings_holds_where_the_request_says_nothing():
    async def scenario(house):
        assert (await house.chat(NOTHING)).event("error")["code"] == "no_evidence"
        assert (await house.chat(NOTHING, ask={"grounding": "preferred"})).types[-1] == "message_completed"

    in_house(scenario, grounding="required")


# --- suggestions ------------------------------------------------------------------------------------------------

SEE_ALSO = Document("C-7", "Case C-7", "", "demo", frozenset({"internal"}), 0.5)


def suggesting(house, *documents):
    source = Slowly(Leaky(*documents))
    object.__setattr__(house.parts, "suggestions", source)
    return source


def test_suggestions_are_told_beside_the_evidence_and_are_none():
    async def scenario(house):
        suggesting(house, SEE_ALSO)
        client = await house.chat(ask=REQUIRED)
        told = client.event("retrieval_completed")
        assert told["suggestions"] == [{"id": "C-7", "title": "Case C-7", "score": 0.5}]
        assert "C-7" not in [document["id"] for document in told["documents"]]
        assert "Case C-7" not in str(house.model.calls)
        assert client.types[-1] == "message_completed"

    in_house(scenario)


def test_a_service_of_suggestions_that_fails_is_a_warning_and_a_degradation_even_where_grounding_is_required():
    async def scenario(house):
        suggesting(house).becomes(error=RetrievalFailed())
        client = await house.chat(ask=REQUIRED)
        assert client.warnings() == ["suggestions_skipped"]
        assert client.event("retrieval_completed")["count"] > 1
        assert client.event("message_completed")["citations"]
        assert house.requests("degraded") == 1

    in_house(scenario)


def test_evidence_and_suggestions_are_looked_for_at_the_same_time():
    async def scenario(house):
        house.retriever.becomes(seconds=0.2)
        suggesting(house, SEE_ALSO).becomes(seconds=0.2)
        await house.chat()
        assert house.recorder.total(rows.PHASE_DURATION_SECONDS, "retrieval.query") == pytest.approx(0.2)

    in_house(scenario)


def test_what_the_policy_lets_nobody_read_is_not_suggested():
    async def scenario(house):
        suggesting(house, RESTRICTED, THEIRS, UNKNOWN_LABEL)
        client = await house.chat()
        assert "suggestions" not in client.event("retrieval_completed")

    in_house(scenario)


# --- the scope --------------------------------------------------------------------------------------------------


class Leaky:
    """A retriever without any idea of a scope."""

    def __init__(self, *documents):
        self._documents = documents

    async def query(self, question, scope, limit):
        return self._documents

    async def close(self):
        pass


def leak(house, *documents):
    leaky = Leaky(*documents)
    object.__setattr__(house.parts, "retriever", leaky)


OURS = Document("ours", "Ours", "Of the Lumen 20 all is known.", "demo", frozenset({"internal"}), 1.0)
RESTRICTED = Document("witness", "Witness", "The swordfish knew.", "demo", frozenset({"restricted"}), 9.0)
UNKNOWN_LABEL = Document("odd", "Odd", "The swordfish knew.", "demo", frozenset({"internal", "odd"}), 9.0)
THEIRS = Document("theirs", "Theirs", "The swordfish knew.", "rival", frozenset({"public"}), 9.0)


@pytest.mark.parametrize("forbidden", [RESTRICTED, UNKNOWN_LABEL, THEIRS], ids=lambda one: one.id)
def test_a_document_that_a_retriever_should_not_have_found_is_stopped_by_the_policy(forbidden):
    async def scenario(house):
        leak(house, forbidden, OURS)
        client = await house.chat()
        assert [found["id"] for found in client.event("retrieval_completed")["documents"]] == ["ours"]
        (call,) = house.model.calls
        assert "swordfish" not in str(call)
        assert b"swordfish" not in client.raw
        assert forbidden.id.encode() not in client.raw

    in_house(scenario)


def test_only_forbidden_documents_are_no_evidence():
    async def scenario(house):
        leak(house, RESTRICTED, THEIRS)
        return await house.chat(ask=REQUIRED)

    assert in_house(scenario).event("error")["code"] == "no_evidence"


def test_nothing_outside_the_scope_reaches_the_prompt():
    secret = [document for document in DOCUMENTS if not document.labels <= {"public", "internal"}]
    assert secret

    async def scenario(house):
        for document in secret:
            await house.chat(document.title, session=document.id, model="sim:tokens=3")
        for call in house.model.calls:
            assert not {document.id for document in secret} & {document.id for document in call.documents}
            assert not any(document.text[:60] in str(call) for document in secret)

    in_house(scenario)


def test_another_tenant_finds_nothing_of_ours():
    async def scenario(house):
        client = await house.chat(key=f"Bearer {EVE.user}")
        assert client.event("retrieval_completed")["count"] == 0
        assert client.warnings() == ["no_evidence"]

    in_house(scenario)


def test_retrieval_never_begins_before_the_policy_has_answered():
    async def scenario(house):
        house.policy.becomes(seconds=0.1, only="scope")
        await house.chat()
        seen = house.recorder
        names = [span["name"] for span in seen.spans]  # in the order of their ends
        assert names.index("policy.check") < names.index("retrieval.query")
        assert seen.span("retrieval.query")["attributes"][Attr.REMAINING_MS] <= 24_900

    in_house(scenario)
