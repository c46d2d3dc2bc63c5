"""In production: nothing for trying out unless it is set, no open /metrics, and no stranger's trace as our own."""

import httpx
import pytest

from tests.commands import forebay, make_key
from tests.process import SIMULATED, Service

HEAD = 'environment = "production"\n'
SERVER = '[server]\nmetrics_token_env = "METRICS_TOKEN"\n'
TOKEN = {"METRICS_TOKEN": "secret"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("production")
    with Service(folder, HEAD + SERVER + SIMULATED, environ=TOKEN) as running:
        yield running


def get(service, path, key="", **headers):
    given = {"Authorization": f"Bearer {key}", **headers} if key else headers
    return httpx.get(service.url + path, headers=given, trust_env=False)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/web/playground.js", "/web/settings.json"])
def test_the_pages_are_off(service, path):
    assert get(service, path).status_code == 404


def test_there_is_no_demo_key(service):
    assert get(service, "/v1/models", key=service.headers["Authorization"][7:]).status_code == 401
    assert not (service.folder / "data" / "demo.key").exists()


def test_the_pages_can_be_switched_on(tmp_path):
    config = f"{HEAD}{SERVER}playground = true\ndocs = true\n{SIMULATED}"
    with Service(tmp_path, config, environ=TOKEN) as running:
        assert [get(running, path).status_code for path in ("/", "/docs", "/openapi.json")] == [200, 200, 200]


def test_the_simulated_model_is_off_unless_it_is_set(tmp_path):
    with Service(tmp_path, HEAD + SERVER, environ=TOKEN) as running:
        key = make_key(tmp_path, "--tenant", "acme", "--user", "ann", environ=TOKEN)
        models = [model["id"] for model in get(running, "/v1/models", key=key).json()["data"]]
        assert models == ["smollm2"]
        body = {"session_id": "s1", "message": "Hello", "model": "sim"}
        answer = httpx.post(
            f"{running.url}/chat/stream", json=body, headers={"Authorization": f"Bearer {key}"}, trust_env=False
        )
        assert answer.status_code == 404


def test_a_start_with_open_metrics_is_refused(tmp_path):
    path = tmp_path / "forebay.toml"
    path.write_text(HEAD + SIMULATED)
    said = forebay("serve", "--config", path, "--data-dir", tmp_path / "data", "--port", "0")
    assert said.returncode == 1
    assert "/metrics needs a token" in said.stderr
    assert "Traceback" not in said.stderr


def test_the_trace_of_a_service_is_carried_on(service):
    key = make_key(service.folder, "--tenant", "acme", "--user", "gateway", "--role", "service", environ=TOKEN)
    assert get(service, "/v1/models", key=key, **PARENT).headers["x-request-id"] == TRACE


def test_the_trace_of_anybody_else_is_not(service):
    key = make_key(service.folder, "--tenant", "acme", "--user", "ann", environ=TOKEN)
    for given in (key, "wrong", ""):
        assert get(service, "/v1/models", key=given, **PARENT).headers["x-request-id"] not in {TRACE, "0" * 32}


def test_in_development_everybodys_trace_is_carried_on(tmp_path):
    with Service(tmp_path) as running:
        assert get(running, "/v1/models", **PARENT).headers["x-request-id"] == TRACE


def test_a_wrong_key_with_a_trace_is_held_against_its_address_once(tmp_path):
    with Service(tmp_path, HEAD + SERVER + SIMULATED, environ=TOKEN) as running:
        statuses = [get(running, "/v1/models", key=f"wrong-{n}", **PARENT).status_code for n in range(20)]
    assert statuses == [401] * 20
