"""Keys at the door, in virtual time, and the demo key on a real disk."""

from __future__ import annotations

import asyncio
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from service import auth
from service.auth import Keys, demo_key
from service.errors import PersistFailed, RateLimited, Unauthenticated
from service.ports import Principal
from tests.virtual_loop import run

ALICE = Principal("acme", "alice", frozenset({"analyst"}), "k1")


class Database:
    """Keys as the state database knows them, with a count of the look-ups."""

    def __init__(self, seconds=0.0):
        self.keys = {"fb_k1_good": ALICE}
        self.lookups = 0
        self.seconds = seconds

    async def __call__(self, key):
        self.lookups += 1
        found = self.keys.get(key)
        await asyncio.sleep(self.seconds)
        return found


def test_a_good_key_tells_whose_it_is():
    assert run(Keys(Database()).authenticate("Bearer fb_k1_good", "a")) == ALICE
    assert run(Keys(Database()).authenticate("bearer  fb_k1_good ", "a")) == ALICE


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic fb_k1_good", "fb_k1_good", "Bearer " + "x" * 513]
)
def test_without_a_key_nothing_is_looked_up(header):
    database = Database()
    with pytest.raises(Unauthenticated):
        run(Keys(database).authenticate(header, "a"))
    assert database.lookups == 0


def test_a_good_key_is_looked_up_once_in_four_seconds():
    database = Database()

    async def main():
        keys = Keys(database)
        for _ in range(16):
            await keys.authenticate("Bearer fb_k1_good", "a")
            await asyncio.sleep(0.5)

    run(main())
    assert database.lookups == 2


@pytest.mark.parametrize("seconds", [0.0, 0.9])
def test_a_revocation_works_within_five_seconds_however_slow_the_database(seconds):
    async def main():
        database = Database(seconds)
        keys = Keys(database)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(keys.authenticate("Bearer fb_k1_good", "a"))
            await asyncio.sleep(0.001)
            database.keys.clear()  # revoked right after it was read
            revoked_at = loop.time()
        with pytest.raises(Unauthenticated):
            await ask_for_ever(keys)
        return loop.time() - revoked_at

    async def ask_for_ever(keys):
        while True:
            await keys.authenticate("Bearer fb_k1_good", "a")
            await asyncio.sleep(0.1)

    assert run(main()) <= 5.0


def test_an_address_that_guesses_is_refused_without_a_look_up_until_time_has_passed():
    database = Database()

    async def main():
        keys = Keys(database)
        for number in range(20):
            with pytest.raises(Unauthenticated):
                await keys.authenticate(f"Bearer guess{number}", "bad")
        with pytest.raises(RateLimited) as refused:
            await keys.authenticate("Bearer guess", "bad")
        assert database.lookups == 20
        assert await keys.authenticate("Bearer fb_k1_good", "good") == ALICE
        await asyncio.sleep(refused.value.retry_after)
        with pytest.raises(Unauthenticated):
            await keys.authenticate("Bearer guess", "bad")
        return refused.value.retry_after

    assert run(main()) == pytest.approx(3.0)


def test_guesses_that_come_all_at_once_are_paid_for_afterwards():
    async def main():
        keys = Keys(Database(seconds=0.1))
        guesses = [keys.authenticate(f"Bearer guess{number}", "bad") for number in range(1000)]
        results = await asyncio.gather(*guesses, return_exceptions=True)
        assert {type(result) for result in results} == {Unauthenticated}
        with pytest.raises(RateLimited) as refused:
            await keys.authenticate("Bearer guess", "bad")
        return refused.value.retry_after

    assert run(main()) == pytest.approx(63.0, abs=0.5)


def test_a_key_that_was_good_passes_from_an_address_where_another_guesses():
    async def main():
        keys = Keys(Database())
        await keys.authenticate("Bearer fb_k1_good", "proxy")
        for number in range(25):
            with pytest.raises((Unauthenticated, RateLimited)):
                await keys.authenticate(f"Bearer guess{number}", "proxy")
        await asyncio.sleep(4.5)
        return await keys.authenticate("Bearer fb_k1_good", "proxy")

    assert run(main()) == ALICE


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(auth, "MOST_KEYS", 10)
    monkeypatch.setattr(auth, "MOST_ADDRESSES", 10)

    async def main():
        database = Database()
        database.keys = {f"key{number}": ALICE for number in range(50)}
        keys = Keys(database)
        for number in range(50):
            await keys.authenticate(f"Bearer key{number}", "a")
            with pytest.raises(Unauthenticated):
                await keys.authenticate("Bearer guess", f"address{number}")
        return len(keys._believed), len(keys._failures)

    assert run(main()) == (10, 10)


def test_a_database_that_cannot_say_is_no_failure_of_the_address():
    async def broken(key):
        raise PersistFailed

    async def main():
        keys = Keys(broken)
        for _ in range(30):
            with pytest.raises(PersistFailed):
                await keys.authenticate("Bearer fb_k1_good", "a")

    run(main())


def test_the_key_itself_is_not_kept():
    keys = Keys(Database())
    run(keys.authenticate("Bearer fb_k1_good", "a"))
    assert "fb_k1_good" not in repr(vars(keys))


def test_the_demo_key_is_random_and_kept_for_its_owner_only(tmp_path):
    key = demo_key(tmp_path / "data", {})
    assert re.fullmatch(r"fb_demo_[0-9a-f]{64}", key)
    assert demo_key(tmp_path / "data", {}) == key
    assert demo_key(tmp_path / "other", {}) != key
    assert stat.S_IMODE((tmp_path / "data" / "demo.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["demo.key"]


def test_a_given_demo_key_wins_and_is_written_nowhere(tmp_path):
    assert demo_key(tmp_path, {"FOREBAY_DEMO_KEY": "open sesame"}) == "open sesame"
    assert not list(tmp_path.iterdir())


def test_processes_that_start_at_once_agree_on_one_demo_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: demo_key(tmp_path, {}), range(8)))
    assert len(keys) == 1
