"""For those who run it: is it alive, is it ready, what does it count. GET /healthz, /readyz, /metrics."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.errors import Unauthenticated
from telemetry import catalogue as rows

if TYPE_CHECKING:
    from service.chat.parts import Parts

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Ready: 503 only while draining or without the state database; everything else is told as degraded, with 200."""
    status, facts = await request.app.state.readiness()
    return JSONResponse(facts, status_code=status)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus text, or OpenMetrics with exemplars when asked for. A plain `def`: rendered in a thread."""
    state: Any = request.app.state
    if state.metrics_token is not None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, b"Bearer " + state.metrics_token.encode()):
            raise Unauthenticated("The metrics need their bearer token")
    measure(state.parts)
    body, content_type = state.telemetry.render(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})


def measure(use: Parts) -> None:
    """Set the gauges that are read from live objects when somebody asks, so that no token pays for them."""
    use.observer.set(rows.STREAM_QUEUE_DEPTH, sum(len(turn.outbox) for turn in use.live))
