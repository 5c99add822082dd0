"""Why: what happened to one job, what was read and decided, what the model got; cancel it, ask again, judge it."""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.console.explaining import again_choices, job_view
from services.api.console.following import OpenEvents, followed
from services.api.console.forms import number, said_of_the_form
from services.api.console.rendering import is_part, page, part
from services.api.console.sessions import Asker, JobViewer, Judge, Reviewer
from services.api.http.auth import ClientsDep
from services.api.jobs import again
from services.api.jobs import feedback as judging
from services.api.jobs import service as jobs
from services.api.jobs.schemas import PathId
from shared.contracts.jobs import Job, JobKind, JobState
from shared.ledger import calls
from shared.security.api_keys import Scope

router = APIRouter(prefix="/jobs")
Text = Annotated[str, Form()]


@router.get("/{job_id}")
async def why(request: Request, job_id: PathId, clients: ClientsDep, visitor: JobViewer) -> Response:
    """Show the page; a training's is another one."""
    job = await jobs.find(clients, visitor.key, job_id)
    if job.kind is JobKind.TRAIN:
        return RedirectResponse(f"/console/training/{job.id}", 303)
    shown = await job_view(clients, visitor, job) | await again_choices(clients, job)
    return page(request, "why.html", **shown)


@router.get("/{job_id}/stream", response_class=EventSourceResponse)
async def stream(
    job_id: PathId, clients: ClientsDep, visitor: JobViewer, events: OpenEvents
) -> AsyncIterator[ServerSentEvent]:
    """Send what changes while the job runs."""
    find = partial(jobs.find, clients, visitor.key, job_id)

    async def parts(job: Job) -> Mapping[str, str]:
        return {"body": part("why_body.html", **await job_view(clients, visitor, job))}

    async for event in followed(events, find=find, parts=parts, tells=visitor.key.may(Scope.READ)):
        yield event


@router.post("/{job_id}/cancel")
async def cancel(request: Request, job_id: PathId, clients: ClientsDep, visitor: Asker) -> HTMLResponse:
    """Cancel the job; its stream shows how it ends."""
    state = await jobs.cancel(clients, visitor.key, await jobs.find(clients, visitor.key, job_id))
    if state is JobState.CANCELLED:
        said = "It is cancelled."
    else:
        said = "It had ended before." if state.is_final else "It ends within its next step."
    return page(request, "done.html", said=said)


@router.post("/{job_id}/again")
async def ask_again(
    request: Request,
    job_id: PathId,
    clients: ClientsDep,
    visitor: Asker,
    label: Text = "",
    release: Text = "",
    explain: Text = "",
) -> Response:
    """Ask again as a new job, and show that."""
    given = {"label": label.strip(), "release": release, "explain": bool(explain)}
    with said_of_the_form():
        wish = again.AgainRequest.model_validate({name: value for name, value in given.items() if value})
        job, _ = await again.ask_again(clients, visitor.key, job_id, wish, None)
    target = f"/console/jobs/{job.id}"
    return Response(headers={"HX-Redirect": target}) if is_part(request) else RedirectResponse(target, 303)


@router.post("/{job_id}/feedback")
async def feedback(
    request: Request,
    job_id: PathId,
    clients: ClientsDep,
    visitor: Judge,
    label: Text = "",
    new: Text = "",
    rating: Text = "",
    output: Text = "",
    accept: Text = "",
) -> HTMLResponse:
    """Say what was right; what is left empty is not said."""
    said: dict[str, Any] = {"label": label.strip(), "output": output, "new": bool(new), "accept": bool(accept)}
    said = {name: value for name, value in said.items() if value}
    if rating:
        said["rating"] = number(rating, int)
    with said_of_the_form():
        wish = judging.FeedbackRequest.model_validate(said)
    await judging.give_feedback(clients, visitor.key, job_id, wish)
    return await _feedback_part(request, clients, visitor, job_id)


@router.post("/{job_id}/feedback/forget")
async def forget_feedback(request: Request, job_id: PathId, clients: ClientsDep, visitor: Reviewer) -> HTMLResponse:
    """Forget all feedback on the job."""
    await clients.ledger.do(calls.forget_feedback(job_id, visitor.key.tenant_id))
    return await _feedback_part(request, clients, visitor, job_id)


async def _feedback_part(request: Request, clients: ClientsDep, visitor: JobViewer, job_id: str) -> HTMLResponse:
    line = "" if visitor.key.may(Scope.REVIEW) else visitor.key.sees
    job = await clients.ledger.do(calls.get(job_id, visitor.key.tenant_id, line))
    return page(request, "why_feedback.html", **await job_view(clients, visitor, job))
