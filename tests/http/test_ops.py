"""For those who run it: readiness, metrics, a port of their own, and who is let in at all."""

import httpx
import pytest

from tests.process import SIMULATED, Service
from tests.support import free_port, until

TOKEN = "the-metrics-token"
GUARDED = """
[server]
allowed_hosts = ["127.0.0.1", "*.example.test", "[::1]"]
cors_origins = ["https://app.example.test"]
metrics_token_env = "METRICS_TOKEN"
"""


def get(url, **more):
    return httpx.get(url, trust_env=False, **more)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    with Service(folder, GUARDED + SIMULATED, environ={"METRICS_TOKEN": TOKEN}) as running:
        yield running


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A service with a port for operations alone, and that port's address."""
    port = free_port()
    with Service(tmp_path_factory.mktemp("apart"), f"[server]\nops_port = {port}\n{SIMULATED}") as running:
        yield running, f"http://127.0.0.1:{port}"


# --- readiness --------------------------------------------------------------------------------------------------------


def test_readiness_tells_how_each_dependency_is(guarded):
    answer = get(f"{guarded.url}/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "dependencies": {"state": "ready", "telemetry": "off"}}


def test_a_collector_that_is_lost_degrades_and_is_still_ready(tmp_path):
    config = f'[telemetry]\notlp_endpoint = "http://127.0.0.1:{free_port()}"\n{SIMULATED}'
    with Service(tmp_path, config) as running, running.client() as client:
        client.get("/v1/models")  # a span that cannot be sent
        until(lambda: client.get("/readyz").json()["status"] != "ready")
        answer = client.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {"status": "degraded", "dependencies": {"state": "ready", "telemetry": "failed"}}


def test_readiness_knows_the_local_model(tmp_path):
    config = "[[providers]]\nname = 'local'\nkind = 'local'\nmodels = ['smollm2']\n" + SIMULATED
    with Service(tmp_path, config) as running:
        answer = get(f"{running.url}/readyz")
        assert answer.status_code == 200
        assert answer.json()["dependencies"]["model:local"] in {"starting", "ready"}


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_need_their_token(guarded):
    assert get(f"{guarded.url}/metrics").status_code == 401
    assert get(f"{guarded.url}/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    answer = get(f"{guarded.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert "forebay_build_info" in answer.text


def test_a_client_key_does_not_open_the_metrics(guarded):
    assert get(f"{guarded.url}/metrics", headers=guarded.headers).status_code == 401


def test_what_is_not_traced_has_an_id_of_its_own_too(guarded):
    answers = [get(f"{guarded.url}{path}") for path in ("/healthz", "/readyz", "/metrics", "/metrics")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len({int(one, 16) for one in ids} - {0}) == len(ids)
    assert answers[-1].json()["trace_id"] == ids[-1]


# --- hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:1234", "a.example.test", "A.EXAMPLE.TEST:80", "[::1]", "[::1]:8080"])
def test_a_host_of_ours_is_served(guarded, host):
    assert get(f"{guarded.url}/v1/models", headers={**guarded.headers, "Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.test", "example.test", "example.test.evil", "127.0.0.1.evil.test", "::1", ""])
def test_a_foreign_host_is_refused_with_a_problem(guarded, host):
    answer = get(f"{guarded.url}/sessions/s1/messages", headers={**guarded.headers, "Host": host})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["trace_id"]


def test_under_v1_a_foreign_host_is_refused_in_the_shape_of_openai(guarded):
    answer = get(f"{guarded.url}/v1/models", headers={**guarded.headers, "Host": "evil.test"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_turn_for_a_foreign_host_is_counted_as_refused(guarded):
    token = {"Authorization": f"Bearer {TOKEN}"}

    def rejected():
        lines = get(f"{guarded.url}/metrics", headers=token).text.splitlines()
        name = 'forebay_rejections_total{reason="invalid",route="/chat/stream"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = rejected()
    httpx.post(f"{guarded.url}/chat/stream", headers={**guarded.headers, "Host": "evil.test"}, json={}, trust_env=False)
    until(lambda: rejected() == before + 1)


def test_a_probe_may_ask_by_any_host(guarded):
    assert get(f"{guarded.url}/readyz", headers={"Host": "10.0.0.7"}).status_code == 200


# --- origins ----------------------------------------------------------------------------------------------------------

ORIGIN = {"Origin": "https://app.example.test"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def test_a_browser_of_an_origin_that_is_named_may_call_and_read_what_it_needs(guarded):
    answer = httpx.options(f"{guarded.url}/chat/stream", headers={**ORIGIN, **PREFLIGHT}, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    answer = get(f"{guarded.url}/v1/models", headers={**guarded.headers, **ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert {"X-Request-Id", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))


def test_a_browser_of_another_origin_may_not(guarded):
    other = {"Origin": "https://evil.test"}
    answer = httpx.options(f"{guarded.url}/chat/stream", headers={**other, **PREFLIGHT}, trust_env=False)
    assert answer.status_code == 400
    answer = get(f"{guarded.url}/v1/models", headers={**guarded.headers, **other})
    assert "access-control-allow-origin" not in answer.headers


def test_without_origins_there_are_no_such_headers(apart):
    service, _ = apart
    answer = get(f"{service.url}/v1/models", headers={**service.headers, **ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- a port of their own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_operations_are_on_their_own_port_alone(apart, path):
    service, ops = apart
    assert get(ops + path).status_code == 200
    assert get(service.url + path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/v1/models", "/sessions/s1/messages"])
def test_nothing_else_is_on_the_port_for_operations(apart, path):
    service, ops = apart
    assert get(ops + path, headers=service.headers).status_code == 404
    assert get(service.url + path, headers=service.headers).status_code in {200, 404}


def test_no_turn_is_taken_on_the_port_for_operations(apart):
    service, ops = apart
    body = {"session_id": "s1", "message": "Hello"}
    assert httpx.post(f"{ops}/chat/stream", headers=service.headers, json=body, trust_env=False).status_code == 404
    with service.client() as client:
        assert client.post("/chat/stream", json={**body, "model": "sim:tokens=2,interval_ms=1"}).status_code == 200


def test_what_is_not_allowed_is_told_with_what_is(guarded):
    answer = httpx.put(f"{guarded.url}/chat/stream", trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.headers["content-type"] == "application/problem+json"
