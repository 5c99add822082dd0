"""`/v1/training/jobs`."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.http.auth import ClientsDep, Trainer, TrainingReader
from services.api.http.idempotency import REPLAYED, IdempotencyKey
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs import service as jobs
from services.api.jobs.answers import JobPage, JobView
from services.api.jobs.events import Events, as_sse, training_events
from services.api.jobs.listing import page
from services.api.jobs.schemas import Accepted, Cursor, Include, Limit, PathId
from services.api.jobs.views import job_view, page_view
from services.api.training import service as training
from services.api.training.cost import Quote
from services.api.training.service import TrainingRequest
from shared.contracts.jobs import JobKind, JobState
from shared.ledger import calls
from shared.ledger.calls import JobFilter

router = APIRouter(prefix="/v1/training/jobs", tags=["training"], route_class=KeyedRoute)


@router.post("", status_code=202)
async def submit(
    request: TrainingRequest, response: Response, clients: ClientsDep, caller: Trainer, key: IdempotencyKey = None
) -> Accepted:
    """Queue a training job."""
    job, replayed = await training.submit(clients, caller, request, key)
    response.headers["Location"] = job.url
    if replayed:
        response.headers[REPLAYED] = "true"
    return job


@router.post("/estimate")
async def estimate(request: TrainingRequest, clients: ClientsDep, caller: Trainer) -> Quote:
    """Say what a training job would take, without queueing it."""
    _, quote = await training.quoted(clients, caller, request)
    return quote


@router.get("", response_model=JobPage)
async def list_training(
    clients: ClientsDep,
    caller: TrainingReader,
    state: JobState | None = None,
    before: Cursor = "",
    limit: Limit = 50,
    include: Include = (),
) -> JSONResponse:
    """List training jobs, newest first."""
    only = JobFilter(state=state, kind=JobKind.TRAIN)
    call = calls.list_jobs(caller.tenant_id, **page(before, limit, include), only=only)
    return await page_view(await clients.ledger.do(call), include)


@router.get("/{job_id}")
async def show(job_id: PathId, clients: ClientsDep, caller: TrainingReader) -> JobView:
    """Show one training job with its progress."""
    return job_view(await training.training(clients, caller, job_id))


@router.delete("/{job_id}")
async def cancel(job_id: PathId, clients: ClientsDep, caller: Trainer) -> dict[str, str]:
    """Cancel a training job; jobs that were to start after its success fail."""
    job = await training.training(clients, caller, job_id)
    return {"id": job_id, "state": await jobs.cancel(clients, caller, job)}


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def events(stream: Annotated[Events, Depends(training_events)]) -> AsyncIterator[ServerSentEvent]:
    """Stream the job's events, past and live, until it ends: `state`, `restart`, `progress`."""
    async for event in stream:
        yield as_sse(event)
