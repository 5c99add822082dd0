"""Batches: how far each is, what is wrong with its input, its files, and its end."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.batches import service as batches
from services.api.console.polling import polled
from services.api.console.rendering import page, part
from services.api.console.sessions import Asker, JobViewer, Visitor
from services.api.files import service as files
from services.api.http.auth import ClientsDep
from services.api.jobs.schemas import PathId
from services.api.openai.pages import After
from shared.security.api_keys import Scope

router = APIRouter(prefix="/batches")
SHOWN = 20


async def place(clients: ClientsDep, visitor: JobViewer) -> AsyncIterator[Visitor]:
    """Take a place for a stream; raises `TooMany` before it begins."""
    with clients.feed.place(visitor.key):
        yield visitor


@router.get("")
async def overview(request: Request, clients: ClientsDep, visitor: JobViewer, after: After = "") -> HTMLResponse:
    """Show the page."""
    found, has_more = await batches.list_some(clients, visitor.key, after, SHOWN)
    last = found[-1].id if has_more else ""
    return page(request, "batches.html", batches=found, after=after, next=last, may_cancel=_may_cancel(visitor))


@router.get("/stream", response_class=EventSourceResponse)
async def stream(visitor: Annotated[Visitor, Depends(place)], clients: ClientsDep) -> AsyncIterator[ServerSentEvent]:
    """Send the newest batches as they change."""

    async def parts() -> Mapping[str, str]:
        found, _ = await batches.list_some(clients, visitor.key, "", SHOWN)
        return {"list": part("batches_list.html", batches=found, may_cancel=_may_cancel(visitor))}

    async for event in polled(clients, parts):
        yield event


@router.get("/files/{file_id}")
async def download(file_id: PathId, clients: ClientsDep, visitor: JobViewer) -> StreamingResponse:
    """Return the content of a file, as `GET /v1/files/{id}/content` does."""
    file = await files.find(clients, visitor.key, file_id)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}"}
    return StreamingResponse(await files.content(clients, file), 200, headers, "application/octet-stream")


@router.get("/{batch_id}")
async def one(request: Request, batch_id: PathId, clients: ClientsDep, visitor: JobViewer) -> HTMLResponse:
    """Show one batch with everything that is wrong with its input."""
    batch = await batches.show(clients, visitor.key, batch_id)
    return page(request, "batch.html", batch=batch, may_cancel=_may_cancel(visitor))


@router.post("/{batch_id}/cancel")
async def cancel(request: Request, batch_id: PathId, clients: ClientsDep, visitor: Asker) -> HTMLResponse:
    """Cancel a batch: what runs ends soon, and what is done is delivered."""
    batch = await batches.cancel(clients, visitor.key, batch_id)
    return page(request, "batch_card.html", batch=batch, may_cancel=_may_cancel(visitor))


def _may_cancel(visitor: Visitor) -> bool:
    return visitor.key.may(Scope.SUBMIT)
