"""The errors that OpenAI's own Python SDK raises."""

import asyncio
from contextlib import ExitStack

import openai
import pytest
from openai import OpenAI

from tests.http.openai_python.calling import ASKED, ROUTE, in_async
from tests.http.upstream import config
from tests.process import END, KEY, Service


@pytest.mark.parametrize(
    ("kind", "status", "code", "how"),
    [
        (openai.NotFoundError, 404, "not_found", {"model": "none"}),
        (openai.BadRequestError, 400, "invalid_request", {"n": 2}),
        (openai.BadRequestError, 400, "invalid_request",
         {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]}),
        (openai.UnprocessableEntityError, 422, "invalid_request", {"messages": [{"role": "boss", "content": "x"}]}),
        (openai.UnprocessableEntityError, 422, "invalid_request", {"model": "sim:speed=9"}),
        (openai.InternalServerError, 502, "provider_error", {"model": "down"}),
        (openai.InternalServerError, 502, "provider_error", {"model": "wrong"}),
        (openai.InternalServerError, 503, "provider_rate_limited", {"model": "busy"}),
        (openai.InternalServerError, 502, "provider_error", {"model": "breaks"}),
        (openai.InternalServerError, 504, "timeout",
         {"model": "no-headers", "extra_headers": {"X-Request-Timeout-Ms": "200"}}),
    ],
)  # fmt: skip
def test_errors_are_of_the_classes_that_the_sdk_has_for_them(client, kind, status, code, how):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "echo", "messages": ASKED, **how})
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id == error.response.headers["x-request-id"]
    assert "swordfish" not in str(error), "what the provider said stays with us"
    if status == 503:
        assert int(error.response.headers["retry-after"]) >= 1


def test_a_wrong_key_is_an_authentication_error(service):
    with (
        OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_an_error_within_a_stream_is_raised_where_it_is_read(client):
    said = []
    with (
        client.chat.completions.create(model="breaks", messages=ASKED, stream=True) as stream,
        pytest.raises(openai.APIError) as caught,
    ):
        said.extend(chunk.choices[0].delta.content for chunk in stream)
    assert said == ["", "So ", "it "]
    assert caught.value.code == "provider_error"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("POST", "/v1/models", 405)])
def test_what_is_no_route_is_told_in_openai_s_shape_too(service, method, path, status):
    with service.client() as plain:
        answer = plain.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_no_json_is_a_bad_request(service):
    with service.client() as plain:
        answer = plain.post(ROUTE, content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_tenant_over_its_limits_gets_a_rate_limit_error_that_says_when_to_come_again(tmp_path, upstream):
    limits = "[limits]\ntenant_requests = 1\ntenant_queue = 1\n"
    with ExitStack() as stack:
        service = stack.enter_context(Service(tmp_path, config(upstream, limits), environ={"UPSTREAM_KEY": "k"}))
        sdk = stack.enter_context(OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, timeout=END))
        stack.enter_context(sdk.chat.completions.create(model="stalls", messages=ASKED, stream=True))
        upstream.next()

        async def two(patient):
            waiting = asyncio.create_task(patient.chat.completions.create(model="echo", messages=ASKED))
            while not await asyncio.to_thread(service.metric, "forebay_admission_queue_depth", resource="requests"):
                await asyncio.sleep(0)
            with pytest.raises(openai.RateLimitError) as caught:
                await patient.chat.completions.create(model="echo", messages=ASKED)
            waiting.cancel()
            return caught.value

        error = in_async(service, two)
    assert error.code == "rate_limited"
    assert int(error.response.headers["retry-after"]) >= 1
