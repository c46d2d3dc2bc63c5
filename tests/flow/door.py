"""A short turn, and the refusals at the door."""

from telemetry import catalogue as rows
from tests.flow.house import ROUTE

SHORT = "sim:tokens=10,interval_ms=10,ttft_ms=50"


def refusals(house, reason):
    return house.recorder.value(rows.REJECTIONS_TOTAL, ROUTE, reason)
