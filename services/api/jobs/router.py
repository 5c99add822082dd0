"""`/v1/jobs`."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.http.auth import Admin, Author, ClientsDep, JobReader, Judge, Reviewer, Submitter
from services.api.http.idempotency import REPLAYED, Answer, IdempotencyKey, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs import accept, again
from services.api.jobs import feedback as judging
from services.api.jobs import service as jobs
from services.api.jobs.answers import JobPage, JobView
from services.api.jobs.events import Events, as_sse, job_events
from services.api.jobs.listing import listed, page
from services.api.jobs.schemas import (
    Accepted,
    Cursor,
    Include,
    JobQuery,
    JobRequest,
    Limit,
    PathId,
)
from services.api.jobs.views import job_view, page_view
from shared.ledger import calls

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=KeyedRoute)


@router.post("", status_code=202)
async def submit(
    request: JobRequest, response: Response, clients: ClientsDep, caller: Author, key: IdempotencyKey = None
) -> Accepted:
    """Accept one text or conversation; the job is stored in the ledger before the response."""
    job, replayed = await accept.accept(clients, caller, request, key)
    response.headers["Location"] = job.url
    if replayed:
        response.headers[REPLAYED] = "true"
    return job


@router.get("", response_model=JobPage)
async def list_jobs(clients: ClientsDep, caller: JobReader, query: Annotated[JobQuery, Query()]) -> JSONResponse:
    """List jobs, newest first; without the scope `read`, those of the key."""
    return await page_view(await listed(clients, caller, query), query.include)


@router.get("/dead", response_model=JobPage)
async def list_dead(
    clients: ClientsDep, caller: Admin, before: Cursor = "", limit: Limit = 50, include: Include = ()
) -> JSONResponse:
    """List dead letters: jobs that were given up because the leases of their attempts ran out."""
    call = calls.list_jobs(caller.tenant_id, **page(before, limit, include), dead=True)
    return await page_view(await clients.ledger.do(call), include)


@router.post("/dead/replay", status_code=202)
async def replay_all(clients: ClientsDep, caller: Admin, once: OnceDep) -> JSONResponse:
    """Restart all dead letters, each as the same job."""

    async def work() -> Answer:
        return Answer(202, {"replayed": await jobs.replay_all(clients, caller)})

    return await once({}, work)


@router.delete("/dead/{job_id}", status_code=204)
async def drop(job_id: PathId, clients: ClientsDep, caller: Admin) -> None:
    """Drop a dead letter: from now on it is kept no longer than any other ended job."""
    await jobs.drop(clients, caller, job_id)


@router.get("/{job_id}")
async def show(job_id: PathId, clients: ClientsDep, caller: JobReader) -> JobView:
    """Show one job: state, selection, result, times."""
    return job_view(await jobs.find(clients, caller, job_id))


@router.delete("/{job_id}")
async def cancel(job_id: PathId, clients: ClientsDep, caller: Submitter) -> dict[str, str]:
    """Cancel a job; a running job ends within its next step, an ended job stays as it is."""
    job = await jobs.find(clients, caller, job_id)
    return {"id": job_id, "state": await jobs.cancel(clients, caller, job)}


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def events(stream: Annotated[Events, Depends(job_events)]) -> AsyncIterator[ServerSentEvent]:
    """Stream the job's events, past and live, until it ends: `state`, `token`, `tool_call`, `restart`, `progress`.

    Those of a try say its `attempt`; a `restart` begins the answer anew: what `token` and `tool_call` told is void.
    """
    async for event in stream:
        yield as_sse(event)


@router.post("/{job_id}/feedback")
async def feedback(
    job_id: PathId, feedback: judging.FeedbackRequest, clients: ClientsDep, caller: Judge, once: OnceDep
) -> JSONResponse:
    """Add feedback on a job's answer to what was said before; what is reviewed joins the data set `feedback`."""

    async def work() -> Answer:
        return Answer(200, {"id": job_id, "feedback": await judging.give_feedback(clients, caller, job_id, feedback)})

    async def again() -> Answer:
        return Answer(200, {"id": job_id, "feedback": (await jobs.find(clients, caller, job_id)).feedback})

    return await once(feedback.model_dump(mode="json"), work, again)


@router.delete("/{job_id}/feedback", status_code=204)
async def forget_feedback(job_id: PathId, clients: ClientsDep, caller: Reviewer) -> None:
    """Forget all feedback on a job, and what of it joined the data set `feedback`; the job may have expired."""
    await clients.ledger.do(calls.forget_feedback(job_id, caller.tenant_id))


@router.delete("/{job_id}/feedback/last")
async def take_back(job_id: PathId, clients: ClientsDep, caller: Judge) -> dict[str, Any]:
    """Take back the key's own feedback on a job, where nobody said anything since; what was said before stays."""
    return {"id": job_id, "feedback": await judging.take_back(clients, caller, job_id)}


@router.post("/{job_id}/again", status_code=202)
async def ask_again(
    job_id: PathId,
    response: Response,
    clients: ClientsDep,
    caller: Author,
    wish: again.AgainRequest | None = None,
    key: IdempotencyKey = None,
) -> Accepted:
    """Ask again what a job asked, as a new job: under another label or release, or to have it explained.

    The new job's metadata names the old one as `made_from`.
    """
    job, replayed = await again.ask_again(clients, caller, job_id, wish or again.AgainRequest(), key)
    response.headers["Location"] = job.url
    if replayed:
        response.headers[REPLAYED] = "true"
    return job


@router.post("/{job_id}/replay", status_code=202)
async def replay(job_id: PathId, clients: ClientsDep, caller: Admin, once: OnceDep) -> JSONResponse:
    """Restart a dead letter as the same job."""

    async def work() -> Answer:
        await jobs.replay(clients, caller, job_id)
        return Answer(202, {"id": job_id}, {"Location": f"/v1/jobs/{job_id}"})

    return await once({}, work)
