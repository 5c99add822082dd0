"""Follows one job for a page: its answer as it comes, and the page's other parts as its state changes."""

import asyncio
import html
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import Depends
from fastapi.sse import ServerSentEvent

from services.api.console.rendering import part
from services.api.console.sessions import STREAM_SECONDS, JobViewer
from services.api.http.auth import ClientsDep
from services.api.infra.event_feed import START, Event
from services.api.jobs import service as jobs
from services.api.jobs.events import LastEventId, opened
from services.api.jobs.schemas import PathId
from shared.contracts.jobs import Job

Parts = Callable[[Job], Awaitable[Mapping[str, str]]]
"""Returns the parts of a page that follow from a job's state, each as HTML under the name of its event."""
_END = ServerSentEvent(raw_data="", event="end")
_BREAKS = {ord(char): f"&#{ord(char)};" for char in "\n\r"}


async def open_events(
    job_id: PathId, clients: ClientsDep, visitor: JobViewer, last_event_id: LastEventId = START
) -> AsyncIterator[AsyncIterator[Event]]:
    """Open the events of a job; raises `NotFound`, `TooMany` before the stream begins."""
    job = await jobs.find(clients, visitor.key, job_id)
    async with opened(clients, visitor.key, job, last_event_id) as events:
        yield events


OpenEvents = Annotated[AsyncIterator[Event], Depends(open_events)]


async def followed(
    events: AsyncIterator[Event], *, find: Callable[[], Awaitable[Job]], parts: Parts, tells: bool
) -> AsyncIterator[ServerSentEvent]:
    """Yield the pieces of the answer (`text`) where the visitor may read it, and a page's parts, until the job ends.

    The part `answer` begins the answer anew; `end` closes the stream.
    """
    async for event in _for_a_while(events):
        if event.type == "state":
            for name, text in (await parts(await find())).items():
                yield ServerSentEvent(raw_data=text, event=name, id=event.id)
        elif event.type == "restart":
            yield ServerSentEvent(raw_data=part("answer_begins.html"), event="answer", id=event.id)
        elif tells and (said := _said(event)):
            yield ServerSentEvent(raw_data=as_text(said), event="text", id=event.id)
        if event.is_final:
            yield _END
            return
    if (job := await find()).state.is_final:  # its last event had come before, and the stream was lost just then
        for name, text in (await parts(job)).items():
            yield ServerSentEvent(raw_data=text, event=name)
        yield _END


def as_text(piece: str) -> str:
    """Return a piece of a text as HTML in one line."""
    return html.escape(piece).translate(_BREAKS)


def _said(event: Event) -> str:
    data = json.loads(event.data)
    if data.get("index", 0):  # of several choices, the first is shown as it comes
        return ""
    if event.type == "tool_call":
        function = data["tool_call"]["function"]
        return f"\n{function['name']}({function['arguments']})"
    return str(data["text"]) if event.type == "token" else ""


async def _for_a_while(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    until = time.monotonic() + STREAM_SECONDS
    try:
        while True:
            yield await asyncio.wait_for(anext(events), until - time.monotonic())
    except (StopAsyncIteration, TimeoutError):
        return
