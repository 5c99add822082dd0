"""`/v1/rollouts`, and the beginning of one under `/v1/releases`."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from services.api.http.auth import Caller, ClientsDep, Promoter
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import PathId
from services.api.rollouts import service
from services.api.rollouts.schemas import RolloutRequest, RolloutView
from services.api.rollouts.service import Command

router = APIRouter(prefix="/v1", tags=["rollouts"], route_class=KeyedRoute)


@router.post("/releases/{release_id}/rollout", status_code=201)
async def begin(
    release_id: PathId, clients: ClientsDep, caller: Promoter, once: OnceDep, body: RolloutRequest | None = None
) -> JSONResponse:
    """Try a candidate on a growing share of the requests, and promote it, or take it back, by what they show."""
    request = body or RolloutRequest()

    async def work() -> Answer:
        made = await service.begin(clients, caller, release_id, request)
        return Answer(201, made.model_dump(mode="json"), {"Location": f"/v1/rollouts/{made.id}"})

    return await once({"release": release_id, **request.model_dump(mode="json")}, work)


@router.get("/rollouts")
async def list_rollouts(clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """List rollouts, the open one first, then those that have ended, newest first."""
    return {"items": await service.list_all(clients, caller)}


@router.get("/rollouts/{rollout_id}")
async def show(rollout_id: PathId, clients: ClientsDep, caller: Caller) -> RolloutView:
    """Show one rollout: its state, what its requests say, its events."""
    return await service.show(clients, caller, rollout_id)


@router.post("/rollouts/{rollout_id}/{command}", status_code=202)
async def ask(rollout_id: PathId, command: Command, clients: ClientsDep, caller: Promoter) -> RolloutView:
    """Pause, resume, promote or abort an open rollout; its controller does it within a second."""
    return await service.ask(clients, caller, rollout_id, command)
