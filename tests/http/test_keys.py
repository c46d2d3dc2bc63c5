"""Keys are made and revoked beside a running server."""

import httpx
import pytest

from tests.commands import forebay, make_key
from tests.process import Service
from tests.support import PATIENCE, PROOF, until

WITHIN = 5.0 if PROOF else PATIENCE  # seconds: the contract's, which tests/unit/test_auth.py holds in virtual time


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("keys")) as running:
        yield running


def status(service, key):
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{service.url}/v1/models", headers=headers, trust_env=False).status_code


def revoke(service, key_id):
    folder = service.folder
    return forebay("key", "revoke", key_id, "--config", folder / "forebay.toml", "--data-dir", folder / "data")


def test_a_new_key_works_at_once(service):
    key = make_key(service.folder, "--tenant", "acme", "--user", "ann", "--role", "analyst")
    assert key.startswith("fb_")
    assert status(service, key) == 200


def test_a_revoked_key_stops_working_within_five_seconds(service):
    key = make_key(service.folder, "--tenant", "acme", "--user", "ben")
    assert status(service, key) == 200
    assert revoke(service, key.split("_")[1]).returncode == 0
    until(lambda: status(service, key) == 401, WITHIN)


def test_revoking_what_is_not_there_is_told(service):
    said = revoke(service, "nobody")
    assert said.returncode == 1
    assert said.stderr == "Error: There is no key 'nobody' that is not revoked.\n"


def test_a_key_has_the_roles_it_was_given_and_no_others(service):
    key = make_key(service.folder, "--tenant", "acme", "--user", "cat", "--role", "developer")
    headers = {"Authorization": f"Bearer {key}"}
    body = {"session_id": "s1", "message": "Hello"}
    answer = httpx.post(f"{service.url}/chat/stream", json=body, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
