"""Playground: ask the selector's choice or a chosen adapter, watch the answer come, see why; compare adapters."""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.datastructures import FormData

from services.api.console import asking
from services.api.console.deciding import decision_view, selection_view
from services.api.console.following import OpenEvents, followed
from services.api.console.forms import said_of_the_form
from services.api.console.rendering import page, part
from services.api.console.sessions import Asker, JobViewer
from services.api.http.auth import ClientsDep
from services.api.jobs import service as jobs
from services.api.jobs.accept import AUTO
from services.api.jobs.schemas import PathId
from shared.contracts.generation import generation_result
from shared.contracts.jobs import Job
from shared.security.api_keys import Scope

router = APIRouter(prefix="/playground")


async def sent_form(request: Request) -> FormData:
    """Return the form that the page sends."""
    return await request.form()


Form = Annotated[FormData, Depends(sent_form)]


@router.get("")
async def playground(
    request: Request, clients: ClientsDep, visitor: Asker, text: str = "", model: str = AUTO
) -> HTMLResponse:
    """Show the page; another page may hand over a text and a model."""
    offer = await asking.offer(clients, visitor.key.tenant_id)
    limits = {"most_tokens": clients.settings.max_new_tokens_limit, "may_explain": visitor.key.may(Scope.READ)}
    return page(request, "playground.html", offer=offer, text=text, model=model, **limits)


@router.post("")
async def ask(request: Request, clients: ClientsDep, visitor: Asker, form: Form) -> HTMLResponse:
    """Ask once, or the same of base model, chosen adapter and runner-up; returns a column for each job."""
    with said_of_the_form():
        wish = asking.read_form(form, may_explain=visitor.key.may(Scope.READ))
    if form.get("do") == "compare":
        compared = await asking.compare(clients, visitor.key, wish)
        decided = selection_view(compared.selection) if compared.selection else None
        return page(request, "playground_answers.html", columns=compared.columns, decided=decided)
    column = await asking.ask(clients, visitor.key, wish)
    return page(request, "playground_answers.html", columns=[column], decided=None)


@router.get("/jobs/{job_id}/stream", response_class=EventSourceResponse)
async def stream(
    job_id: PathId, clients: ClientsDep, visitor: JobViewer, events: OpenEvents
) -> AsyncIterator[ServerSentEvent]:
    """Send the answer of a job as it comes, and the decision."""
    find = partial(jobs.find, clients, visitor.key, job_id)
    async for event in followed(events, find=find, parts=_parts, tells=True):
        yield event


async def _parts(job: Job) -> Mapping[str, str]:
    found = {"state": part("job_state.html", job=job), "decision": part("decision.html", **decision_view(job))}
    if job.state.is_final:
        known: dict[str, Any] = {"job": job, "result": generation_result(job), "shows_texts": True}
        found["answer"] = part("answer.html", **known)
    return found
