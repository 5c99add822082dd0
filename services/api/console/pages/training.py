"""Training: what waits and runs, a form that starts one, and each one's losses, checkpoints and log as they come."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.console.forms import checked
from services.api.console.polling import polled
from services.api.console.rendering import page, part
from services.api.console.sessions import Trainer, TrainingViewer, Visitor
from services.api.console.training_form import DEFAULTS, body_of, command_of, offered
from services.api.console.training_run import Run
from services.api.http.auth import ClientsDep
from services.api.infra.clients import Clients
from services.api.jobs import service as jobs
from services.api.jobs.schemas import Cursor, PathId
from services.api.training import service as training
from shared.contracts.durations import in_words
from shared.contracts.jobs import Job, JobKind
from shared.ledger import calls
from shared.ledger.calls import JobFilter
from shared.names import TRAIN_QUEUE
from shared.security.api_keys import Scope

router = APIRouter(prefix="/training")
SHOWN = 20


async def place(clients: ClientsDep, visitor: TrainingViewer) -> AsyncIterator[Visitor]:
    """Take a place for a stream; raises `TooMany` before it begins."""
    with clients.feed.place(visitor.key):
        yield visitor


Streaming = Annotated[Visitor, Depends(place)]


async def followed_job(job_id: PathId, clients: ClientsDep, visitor: Streaming) -> Job:
    """Return the training whose stream is opened; raises `NotFound` before it begins."""
    return await training.training(clients, visitor.key, job_id)


@router.get("")
async def overview(request: Request, clients: ClientsDep, visitor: TrainingViewer, before: Cursor = "") -> HTMLResponse:
    """Show the page."""
    found = await _list(clients, visitor, before)
    choices: dict[str, Any] = await offered(clients, visitor.key.tenant_id) if visitor.key.may(Scope.TRAIN) else {}
    return page(request, "training.html", **found, before=before, defaults=DEFAULTS, **choices)


@router.get("/stream", response_class=EventSourceResponse)
async def stream(visitor: Streaming, clients: ClientsDep) -> AsyncIterator[ServerSentEvent]:
    """Send the newest trainings as they change."""

    async def parts() -> Mapping[str, str]:
        return {"list": part("training_list.html", **await _list(clients, visitor, ""), before="")}

    async for event in polled(clients, parts):
        yield event


@router.post("/estimate")
async def estimate(request: Request, clients: ClientsDep, visitor: Trainer) -> HTMLResponse:
    """Say what a training would take, without queueing it."""
    body = body_of(await _fields(request))
    _, quote = await training.quoted(clients, visitor.key, checked(training.REQUEST, body))
    return page(request, "training_quote.html", quote=quote, command=command_of(body), in_words=in_words)


@router.post("")
async def submit(request: Request, clients: ClientsDep, visitor: Trainer) -> Response:
    """Queue a training, and go to its page."""
    asked = checked(training.REQUEST, body_of(await _fields(request)))
    job, _ = await training.submit(clients, visitor.key, asked, None)
    return Response(status_code=204, headers={"HX-Redirect": f"/console/training/{job.id}"})


@router.get("/{job_id}")
async def one(request: Request, job_id: PathId, clients: ClientsDep, visitor: TrainingViewer) -> HTMLResponse:
    """Show one training."""
    job = await training.training(clients, visitor.key, job_id)
    run = await _read_on(clients, job.id, Run())
    return page(request, "training_one.html", job=job, parts=_parts(job, run, visitor))


@router.get("/{job_id}/stream", response_class=EventSourceResponse)
async def stream_one(
    followed_job: Annotated[Job, Depends(followed_job)], visitor: Streaming, clients: ClientsDep
) -> AsyncIterator[ServerSentEvent]:
    """Send what a training tells as it comes, and `ended` at its end."""
    run = Run()

    async def parts() -> Mapping[str, str]:
        job = await training.training(clients, visitor.key, followed_job.id)
        await _read_on(clients, job.id, run)
        return _parts(job, run, visitor) | ({"ended": "yes"} if job.state.is_final else {})

    async for event in polled(clients, parts):
        yield event


@router.post("/{job_id}/cancel")
async def cancel(request: Request, job_id: PathId, clients: ClientsDep, visitor: Trainer) -> HTMLResponse:
    """Cancel a training; jobs that were to start after its success fail."""
    job = await training.training(clients, visitor.key, job_id)
    await jobs.cancel(clients, visitor.key, job)
    job = await training.training(clients, visitor.key, job_id)
    run = await _read_on(clients, job.id, Run())
    return page(request, "training_standing.html", job=job, run=run, may_cancel=True)


async def _read_on(clients: Clients, job_id: str, run: Run) -> Run:
    """Take in the events that a run has not seen yet."""
    async for event in clients.feed.past(job_id, run.position):
        run.add(event)
    return run


def _parts(job: Job, run: Run, visitor: Visitor) -> dict[str, str]:
    shown: dict[str, Any] = {"job": job, "run": run, "may_cancel": visitor.key.may(Scope.TRAIN)}
    return {name: part(f"training_{name}.html", **shown) for name in ("standing", "charts", "log")}


async def _list(clients: Clients, visitor: Visitor, before: str) -> dict[str, Any]:
    tenant_id = visitor.key.tenant_id
    only, cursor = JobFilter(kind=JobKind.TRAIN), f"({before}" if before else ""
    found = await clients.ledger.do(calls.list_jobs(tenant_id, limit=SHOWN, before=cursor, only=only))
    board = await clients.ledger.do(calls.board(tenant_id, 0))
    track = next((track for track in board.tracks if track.queue == TRAIN_QUEUE), None)
    return {"found": found, "track": track, "queue": TRAIN_QUEUE}


async def _fields(request: Request) -> dict[str, str]:
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
