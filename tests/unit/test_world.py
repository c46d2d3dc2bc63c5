"""The real world: what every production process gets."""

from __future__ import annotations

from service.runtime.world import real_world


def test_ids_begin_with_their_prefix_and_never_repeat():
    world = real_world()
    ids = {world.new_id("msg") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == len("msg_") + 32 and one.startswith("msg_") for one in ids)


def test_the_clock_is_in_unix_seconds_and_two_worlds_draw_different_numbers():
    one, other = real_world(), real_world()
    assert 1_700_000_000 < one.now() <= other.now()
    assert one.random.random() != other.random.random()
