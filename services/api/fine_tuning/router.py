"""`/v1/fine_tuning/jobs`, in OpenAI's format."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.api.fine_tuning import service
from services.api.fine_tuning.schemas import CreateFineTuning
from services.api.fine_tuning.views import checkpoint_view, event_view, job_view
from services.api.http.auth import ClientsDep, Trainer, TrainingReader
from services.api.http.idempotency import IdempotencyKey
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs import service as jobs
from services.api.jobs.schemas import PathId
from services.api.openai.pages import After, listing, page
from shared.ledger.keys import LedgerKey

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=KeyedRoute)
Limit = Annotated[int, Query(ge=1, le=100)]
View = dict[str, Any]


@router.post("")
async def create(wanted: CreateFineTuning, clients: ClientsDep, caller: Trainer, key: IdempotencyKey = None) -> View:
    """Queue the training of an adapter on the rows of a file."""
    return job_view(await service.create(clients, caller, wanted, key))


@router.get("")
async def list_jobs(clients: ClientsDep, caller: TrainingReader, after: After = "", limit: Limit = 20) -> View:
    """List fine-tuning jobs, newest first."""
    found, has_more = await service.listed(clients, caller, after, limit)
    return listing([job_view(job) for job in found], has_more=has_more)


@router.get("/{job_id}")
async def show(job_id: PathId, clients: ClientsDep, caller: TrainingReader) -> View:
    """Show one fine-tuning job."""
    return job_view(await service.find(clients, caller, job_id))


@router.post("/{job_id}/cancel")
async def cancel(job_id: PathId, clients: ClientsDep, caller: Trainer) -> View:
    """Cancel a fine-tuning job; the training that would bring its label into the selector fails with it."""
    await jobs.cancel(clients, caller, await service.find(clients, caller, job_id))
    return job_view(await service.find(clients, caller, job_id))


@router.get("/{job_id}/events")
async def events(
    job_id: PathId, clients: ClientsDep, caller: TrainingReader, after: After = "", limit: Limit = 20
) -> View:
    """List what happened to a job, newest first: its states, its stages, the loss of each step."""
    await service.find(clients, caller, job_id)
    redis: Any = clients.ledger.redis
    stored = await redis.xrevrange(LedgerKey.EVENTS.of(job_id))
    return page([event_view(event_id, fields) for event_id, fields in stored], after, limit)


@router.get("/{job_id}/checkpoints")
async def checkpoints(
    job_id: PathId, clients: ClientsDep, caller: TrainingReader, after: After = "", limit: Limit = 10
) -> View:
    """List the models that a job has made: one, when it has succeeded."""
    return page(checkpoint_view(await service.find(clients, caller, job_id)), after, limit)
