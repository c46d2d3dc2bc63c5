"""Far more turns than there is room for: each gets an answer, the books balance, and nothing is left behind.

How quickly the surplus is refused, and what becomes of the rest, is measured by tests/benchmarks/overload.py.
"""

import asyncio

from tests.benchmarks import overload
from tests.http.raw import address, resident
from tests.process import KEY, Service


def test_every_turn_of_an_overload_is_answered_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(overload, "SECONDS", 4.0)
    monkeypatch.setattr(overload, "SETTLING", 0.0)
    monkeypatch.setattr(overload, "HEAD", overload.HEAD.replace(overload.KEY, KEY))
    with Service(tmp_path, overload.CONFIG) as service:
        before = resident(service)
        seen = asyncio.run(overload.crowd(address(service)[1], rate=10 * overload.ROOM, seed=1))
        assert seen.failed == 0
        assert seen.offered == seen.completed + len(seen.refused) + len(seen.waited)
        assert seen.completed >= overload.PLACES
        service.comes_to(0, "forebay_requests_in_flight")
        assert service.metric("forebay_requests_started_total") == seen.offered
        rejected = service.metric("forebay_requests_total", outcome="rejected")
        assert rejected == len(seen.refused) + len(seen.waited) == service.metric("forebay_rejections_total")
        assert service.metric("forebay_requests_total", outcome="completed") == seen.completed
        for gauge in ("concurrency_in_use", "admission_queue_depth", "stream_queue_depth", "concurrency_unowned"):
            assert service.metric(f"forebay_{gauge}") == 0, gauge
        assert resident(service) - before < 40 * 2**20
