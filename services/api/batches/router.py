"""`/v1/batches`, in OpenAI's format."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.api.batches import service as batches
from services.api.batches.schemas import BatchPage, BatchRequest, BatchView
from services.api.http.auth import Author, ClientsDep, JobReader, Submitter
from services.api.http.idempotency import REPLAYED, IdempotencyKey
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import PathId
from services.api.openai.pages import After, listing

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=KeyedRoute)


@router.post("")
async def create(
    body: BatchRequest, response: Response, clients: ClientsDep, caller: Author, key: IdempotencyKey = None
) -> BatchView:
    """Answer every request of a file, within a day; nothing of it runs where a line of it is wrong."""
    batch, existing = await batches.create(clients, caller, body, key)
    if existing:
        response.headers[REPLAYED] = "true"
    return batch


@router.get("")
async def list_batches(
    clients: ClientsDep, caller: JobReader, after: After = "", limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> BatchPage:
    """List batches, newest first; without the scope `read`, those of the key."""
    found, has_more = await batches.list_some(clients, caller, after, limit)
    return BatchPage.model_validate(listing([one.model_dump() for one in found], has_more=has_more))


@router.get("/{batch_id}")
async def show(batch_id: PathId, clients: ClientsDep, caller: JobReader) -> BatchView:
    """Show one batch: its state, how many requests have ended, everything that is wrong with its input."""
    return await batches.show(clients, caller, batch_id)


@router.post("/{batch_id}/cancel")
async def cancel(batch_id: PathId, clients: ClientsDep, caller: Submitter) -> BatchView:
    """Cancel a batch: what runs ends soon, and what is done is delivered."""
    return await batches.cancel(clients, caller, batch_id)
