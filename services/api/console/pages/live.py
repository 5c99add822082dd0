"""Live: the tracks of the signal box, how long stages take, the last jobs as they come."""

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.console.board import Look
from services.api.console.rendering import page
from services.api.console.sessions import STREAM_SECONDS, PromptViewer
from services.api.http.auth import ClientsDep

router = APIRouter(prefix="/live")


async def look_of(request: Request, clients: ClientsDep, visitor: PromptViewer) -> Look:
    """Return what all who look at this tenant's page share."""
    found = request.app.state.looks.of(clients, visitor.key.tenant_id)
    assert isinstance(found, Look)
    return found


async def open_stream(
    look: Annotated[Look, Depends(look_of)], clients: ClientsDep, visitor: PromptViewer
) -> AsyncIterator[Look]:
    """Take a place for a stream; raises `TooMany` before it begins."""
    with clients.feed.place(visitor.key):
        async with look.reading():
            yield look


@router.get("")
async def live(request: Request, look: Annotated[Look, Depends(look_of)]) -> HTMLResponse:
    """Show the page."""
    return page(request, "live.html", parts=await look.current())


@router.get("/stream", response_class=EventSourceResponse)
async def stream(look: Annotated[Look, Depends(open_stream)]) -> AsyncIterator[ServerSentEvent]:
    """Send each part of the page as it changes."""
    seen: dict[str, str] = {}
    until = time.monotonic() + STREAM_SECONDS
    while not look.is_over and (left := until - time.monotonic()) > 0:
        changed = await look.next(seen, left)
        seen = seen | changed
        for name, text in changed.items():
            yield ServerSentEvent(raw_data=text, event=name)
