"""A service in front of a provider, and OpenAI's client for it."""

import pytest
from openai import OpenAI

from tests.http.upstream import Upstream, config
from tests.process import END, KEY, Service


@pytest.fixture(scope="module")
def provider():
    with Upstream() as running:
        yield running


@pytest.fixture
def upstream(provider):
    provider.forget()
    return provider


@pytest.fixture(scope="module")
def service(tmp_path_factory, provider):
    with Service(tmp_path_factory.mktemp("openai"), config(provider), environ={"UPSTREAM_KEY": "sk-up"}) as running:
        yield running


@pytest.fixture
def client(service):
    with OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, timeout=END) as sdk:
        yield sdk
