"""Rollouts: how far each is, what its requests say, and how it is begun, paused, promoted and taken back."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import TypeAdapter

from services.api.console.forms import checked, number
from services.api.console.polling import polled
from services.api.console.rendering import page, part
from services.api.console.sessions import Anyone, Promoter, Visitor
from services.api.http.auth import ClientsDep
from services.api.jobs.schemas import PathId
from services.api.rollouts import service
from services.api.rollouts.schemas import RolloutRequest, RolloutView
from services.api.rollouts.service import Command
from shared.security.api_keys import Scope

router = APIRouter(prefix="/rollouts")
_BODY: TypeAdapter[RolloutRequest] = TypeAdapter(RolloutRequest)


async def place(clients: ClientsDep, visitor: Anyone) -> AsyncIterator[Visitor]:
    """Take a place for a stream; raises `TooMany` before it begins."""
    with clients.feed.place(visitor.key):
        yield visitor


Streaming = Annotated[Visitor, Depends(place)]


async def followed(rollout_id: PathId, clients: ClientsDep, visitor: Streaming) -> RolloutView:
    """Return the rollout whose stream is opened; raises `NotFound` before it begins."""
    return await service.show(clients, visitor.key, rollout_id)


@router.get("")
async def overview(request: Request, clients: ClientsDep, visitor: Anyone) -> HTMLResponse:
    """Show the page."""
    return page(request, "rollouts.html", rollouts=await service.list_all(clients, visitor.key))


@router.post("")
async def begin(
    clients: ClientsDep,
    visitor: Promoter,
    release: Annotated[str, Form(max_length=64)],
    strategy: Annotated[str, Form(max_length=16)] = "canary",
    steps: Annotated[str, Form(max_length=200)] = "1,5,25,50,100",
    minutes: Annotated[float, Form(ge=0, le=43_200)] = 10,
    requests: Annotated[int, Form(ge=1, le=10_000_000)] = 100,
) -> Response:
    """Begin one, and go to its page."""
    shares = [number(share, int) for share in steps.split(",")]
    body = {"strategy": strategy, "steps": shares, "seconds": minutes * 60, "requests": requests}
    made = await service.begin(clients, visitor.key, release, checked(_BODY, body))
    return Response(status_code=204, headers={"HX-Redirect": f"/console/rollouts/{made.id}"})


@router.get("/{rollout_id}")
async def one(request: Request, rollout_id: PathId, clients: ClientsDep, visitor: Anyone) -> HTMLResponse:
    """Show one rollout."""
    found = await service.show(clients, visitor.key, rollout_id)
    return page(request, "rollout.html", rollout=found, may=visitor.key.may(Scope.PROMOTE))


@router.get("/{rollout_id}/stream", response_class=EventSourceResponse)
async def stream(
    followed: Annotated[RolloutView, Depends(followed)], visitor: Streaming, clients: ClientsDep
) -> AsyncIterator[ServerSentEvent]:
    """Send what changes, and `ended` at its end."""

    async def parts() -> Mapping[str, str]:
        found = await service.show(clients, visitor.key, followed.id)
        shown = part("rollout_standing.html", rollout=found, may=visitor.key.may(Scope.PROMOTE))
        return {"standing": shown} | ({"ended": "yes"} if found.state.is_final else {})

    async for event in polled(clients, parts):
        yield event


@router.post("/{rollout_id}/{command}")
async def ask(
    request: Request, rollout_id: PathId, command: Command, clients: ClientsDep, visitor: Promoter
) -> HTMLResponse:
    """Pause, resume, promote or abort it."""
    found = await service.ask(clients, visitor.key, rollout_id, command)
    return page(request, "rollout_standing.html", rollout=found, may=True, asked=command)
