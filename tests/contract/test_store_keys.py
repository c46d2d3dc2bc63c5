"""What every state database must hold of keys."""

import pytest

from tests.contract.stores import NOW, Bench


def test_a_key_opens_for_its_user_with_its_roles_until_it_is_revoked(database):
    async def scenario(bench: Bench) -> None:
        key = await bench.store.create_key("acme", "ann", ["approver", "analyst"])
        who = await bench.store.authenticate(key)
        assert who is not None
        assert (who.tenant, who.user, who.roles) == ("acme", "ann", {"analyst", "approver"})
        assert await bench.store.tenants() == ("acme",)
        assert await bench.store.revoke_key(who.key_id)
        assert await bench.store.authenticate(key) is None
        assert not await bench.store.revoke_key(who.key_id)

    database.run(scenario)


@pytest.mark.parametrize("change", ["", "x", "fb_", "fb_none_0"])
def test_a_text_that_is_no_key_opens_nothing(database, change):
    async def scenario(bench: Bench) -> None:
        key = await bench.store.create_key("acme", "ann", ["analyst"])
        assert await bench.store.authenticate(change) is None
        assert await bench.store.authenticate(key[:-1] + ("0" if key[-1] != "0" else "1")) is None
        assert await bench.store.authenticate(key + change) is None or not change

    database.run(scenario)


def test_a_key_opens_nothing_once_it_has_expired(database):
    async def scenario(bench: Bench) -> None:
        key = await bench.store.create_key("acme", "ann", ["analyst"], expires_at=NOW + 60)
        assert await bench.store.authenticate(key)
        bench.clock.now = NOW + 60
        assert await bench.store.authenticate(key) is None

    database.run(scenario)


@pytest.mark.parametrize("text", ["swordfish", "fb_abc_def", "with_many_under_scores", "fb_demo_1"])
def test_the_demo_key_has_any_form_and_a_new_one_replaces_it(database, text):
    async def scenario(bench: Bench) -> None:
        await bench.store.put_demo_key("the old one")
        await bench.store.put_demo_key(text)
        who = await bench.store.authenticate(text)
        assert who is not None
        assert (who.tenant, who.user, who.roles) == ("demo", "demo", {"analyst", "approver", "developer"})
        assert await bench.store.authenticate("the old one") is None

    database.run(scenario)
