"""/openapi.json says what the service does, every event and every refusal; who tries it all finds nothing else."""

import os
import subprocess
import sysconfig
from pathlib import Path

import httpx
import pytest

from service.chat.events import EVENTS
from service.errors import Code
from tests.process import KEY, SIMULATED, Service
from tests.support import proof_count

CONFIG = f'default_model = "sim:tokens=3,interval_ms=1,ttft_ms=1"\n{SIMULATED}'
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "ignored_auth",
)  # fmt: skip
RUN_SECONDS = 300.0


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("openapi"), CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def document(service):
    return httpx.get(f"{service.url}/openapi.json", trust_env=False).json()


def operations(document):
    return [(path, one) for path, methods in document["paths"].items() for one in methods.values()]


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_event_is_a_component_with_its_fields(document):
    schemas = document["components"]["schemas"]
    stream = document["paths"]["/chat/stream"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    assert stream["itemSchema"] == {"$ref": "#/components/schemas/ChatEvent"}
    named = {one["properties"]["event"]["const"] for one in schemas["ChatEvent"]["oneOf"]}
    assert named == {event.type for event in EVENTS}
    for event in EVENTS:
        sent = {name for name, field in event.model_fields.items() if not field.exclude}
        assert set(schemas[event.__name__]["properties"]) == sent


def test_every_reference_leads_somewhere(document):
    schemas = document["components"]["schemas"]
    assert {name for name in references(document) if name.rpartition("/")[2] not in schemas} == set()


def test_every_refusal_is_a_problem_with_a_code_of_the_list(document):
    codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert codes == [str(code) for code in Code]
    for path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                wanted = "application/json" if path.startswith("/v1/") else "application/problem+json"
                assert wanted in response["content"], (path, status)
                assert ("Retry-After" in response["headers"]) == (status in {"429", "503"})


def test_every_route_says_that_it_needs_a_key(document):
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["security"] == [{"key": []}]
    assert all("401" in operation["responses"] for _, operation in operations(document))


def test_whatever_is_sent_the_service_answers_as_it_says(service, tmp_path):
    command = [
        str(Path(sysconfig.get_path("scripts"), "st")), "run", f"{service.url}/openapi.json",
        "--header", f"Authorization: Bearer {KEY}", "--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing",
        "--max-examples", str(proof_count(10, 500)), "--seed", "1", "--request-timeout", "30", "--no-color",
    ]  # fmt: skip
    environ = {**os.environ, "NO_PROXY": "127.0.0.1"}
    said = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert said.returncode == 0, said.stdout[-6000:]
    assert not service.lines("bug")
