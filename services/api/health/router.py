"""`/healthz`, `/readyz` and `/metrics`, for orchestrators; they need no key."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from services.api.health import checks
from services.api.http.auth import ClientsDep

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 200 while the process runs."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(clients: ClientsDep) -> JSONResponse:
    """Show the state of each dependency; the status is 503 where a needed one is down."""
    found = await checks.readiness(clients)
    if checks.is_ready(found):
        return JSONResponse(checks.report(found))
    return JSONResponse(checks.report(found), 503, {"Retry-After": "5"})


@router.get("/metrics")
async def metrics(clients: ClientsDep) -> Response:
    """Show the metrics in the Prometheus text format."""
    text = await clients.metrics.render(clients.ledger, clients.room, clients.feed.reader_count)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
