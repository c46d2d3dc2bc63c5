"""A worker process for test_workers.py: takes orders on standard input, answers each with one line.

`count N`, `gauge N`, `flight N`, `budget N` change its metrics; `render` answers with what /metrics shows, as JSON.
"""

import io
import json
import sys

from telemetry.catalogue import (
    CONCURRENCY_IN_USE,
    PHASE_BUDGET_SECONDS,
    PHASE_DURATION_SECONDS,
    REQUESTS_IN_FLIGHT,
    REQUESTS_STARTED_TOTAL,
)
from telemetry.setup import Options, Telemetry
from telemetry.testing import EXAMPLE_LABELS


def main():
    telemetry = Telemetry(Options(EXAMPLE_LABELS, {"service.name": "forebay"}), stream=io.StringIO())
    observer = telemetry.observer
    answer("ready")
    for line in sys.stdin:
        order, _, number = line.strip().partition(" ")
        if order == "count":
            observer.inc(REQUESTS_STARTED_TOTAL, "/chat/stream", by=float(number))
            observer.record(PHASE_DURATION_SECONDS, float(number), "rerank")
        elif order == "gauge":
            observer.add(CONCURRENCY_IN_USE, float(number), "requests")
        elif order == "flight":
            observer.add(REQUESTS_IN_FLIGHT, float(number), "/chat/stream")
        elif order == "budget":
            observer.set(PHASE_BUDGET_SECONDS, float(number), "rerank")
        answer(telemetry.render()[0].decode() if order == "render" else "done")
    telemetry.close()


def answer(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
