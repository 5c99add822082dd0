"""Opens event streams; every refusal happens before the stream begins."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header
from fastapi.sse import ServerSentEvent

from services.api.http.auth import ClientsDep, JobReader, TrainingReader
from services.api.infra.clients import Clients
from services.api.infra.event_feed import START, Event
from services.api.jobs.schemas import PathId
from services.api.jobs.service import find
from services.api.training.service import training
from shared.contracts.jobs import Job
from shared.json_text import on_one_line
from shared.security.api_keys import Key

Events = AsyncIterator[Event]
LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        max_length=37,
        pattern=r"^[0-9]{1,18}-[0-9]{1,18}$",
        description="Go on after this event",
    ),
]


def as_sse(event: Event) -> ServerSentEvent:
    """Return the event in the form of the stream."""
    return ServerSentEvent(raw_data=on_one_line(event.data), event=event.type, id=event.id)


async def job_events(
    job_id: PathId, clients: ClientsDep, caller: JobReader, last_event_id: LastEventId = START
) -> AsyncIterator[Events]:
    """Open the events of a job; raises `NotFound`, `TooMany`."""
    job = await find(clients, caller, job_id)
    async with opened(clients, caller, job, last_event_id) as events:
        yield events


async def training_events(
    job_id: PathId, clients: ClientsDep, caller: TrainingReader, last_event_id: LastEventId = START
) -> AsyncIterator[Events]:
    """Open the events of a training job; raises `NotFound`, `TooMany`."""
    job = await training(clients, caller, job_id)
    async with opened(clients, caller, job, last_event_id) as events:
        yield events


@contextlib.asynccontextmanager
async def opened(clients: Clients, caller: Key, job: Job, after: str) -> AsyncIterator[Events]:
    """Open the events of a job after one of them; raises `TooMany`."""
    if job.state.is_final:
        yield clients.feed.past(job.id, after)
        return
    with clients.feed.place(caller):
        async with clients.feed.reader(job.id) as reader:
            yield clients.feed.events(reader, after)
