"""Rebases: a release's adapters trained anew on another base model: the plan, how far each is, old against new."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import TypeAdapter

from services.api.console.forms import checked
from services.api.console.pages.training import Streaming
from services.api.console.polling import polled
from services.api.console.rendering import page, part
from services.api.console.sessions import Trainer, TrainingViewer, Visitor
from services.api.http.auth import ClientsDep
from services.api.jobs.schemas import PathId
from services.api.rebases import service
from services.api.rebases.bases import known_bases
from services.api.rebases.schemas import RebaseRequest, RebaseView
from shared.contracts.durations import in_words
from shared.security.api_keys import Scope

router = APIRouter(prefix="/rebases")
_BODY: TypeAdapter[RebaseRequest] = TypeAdapter(RebaseRequest)
_ENDED = {"succeeded", "failed", "cancelled"}


def asked(
    base_model: Annotated[str, Form(max_length=512)],
    missing: Annotated[str, Form(max_length=16)] = "refuse",
    confirm_cost: Annotated[bool, Form()] = False,
) -> RebaseRequest:
    """Return what the form asks for; raises what the route raises where it is wrong."""
    return checked(_BODY, {"base_model": base_model.strip(), "missing": missing, "confirm_cost": confirm_cost})


Asked = Annotated[RebaseRequest, Depends(asked)]


async def followed(rebase_id: PathId, clients: ClientsDep, visitor: Streaming) -> RebaseView:
    """Return the rebase whose stream is opened; raises `NotFound` before it begins."""
    return await service.show(clients, visitor.key, rebase_id)


@router.get("")
async def overview(request: Request, clients: ClientsDep, visitor: TrainingViewer) -> HTMLResponse:
    """Show the page."""
    found = await service.listed(clients, visitor.key)
    names = sorted({base.name or base.id for base in await asyncio.to_thread(known_bases, clients)})
    return page(request, "rebases.html", rebases=found, bases=names, may=visitor.key.may(Scope.TRAIN))


@router.post("/plan")
async def plan(request: Request, clients: ClientsDep, visitor: Trainer, asked: Asked) -> HTMLResponse:
    """Show what a rebase would do with each label, and begin nothing."""
    _, found = await service.planned(clients, visitor.key, asked)
    return page(request, "rebase_plan.html", plan=found.shown, asked=asked, in_words=in_words)


@router.post("")
async def begin(clients: ClientsDep, visitor: Trainer, asked: Asked) -> Response:
    """Begin one, and go to its page."""
    made = await service.begin(clients, visitor.key, asked)
    return Response(status_code=204, headers={"HX-Redirect": f"/console/rebases/{made.id}"})


@router.get("/{rebase_id}")
async def one(request: Request, rebase_id: PathId, clients: ClientsDep, visitor: TrainingViewer) -> HTMLResponse:
    """Show one rebase."""
    found = await service.show(clients, visitor.key, rebase_id)
    return page(request, "rebase.html", **_shown(found, visitor))


@router.get("/{rebase_id}/stream", response_class=EventSourceResponse)
async def stream(
    followed: Annotated[RebaseView, Depends(followed)], visitor: Streaming, clients: ClientsDep
) -> AsyncIterator[ServerSentEvent]:
    """Send what changes, and `ended` at its end."""

    async def parts() -> Mapping[str, str]:
        found = await service.show(clients, visitor.key, followed.id)
        return {"standing": part("rebase_standing.html", **_shown(found, visitor))} | (
            {"ended": "yes"} if found.state in _ENDED else {}
        )

    async for event in polled(clients, parts):
        yield event


@router.post("/{rebase_id}/cancel")
async def cancel(request: Request, rebase_id: PathId, clients: ClientsDep, visitor: Trainer) -> HTMLResponse:
    """Cancel its trainings that have not ended."""
    found = await service.cancel(clients, visitor.key, rebase_id)
    return page(request, "rebase_standing.html", **_shown(found, visitor))


def _shown(rebase: RebaseView, visitor: Visitor) -> dict[str, Any]:
    return {"rebase": rebase, "is_open": rebase.state not in _ENDED, "may": visitor.key.may(Scope.TRAIN)}
