"""`/v1/releases`."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from services.api.http.auth import Caller, ClientsDep, Promoter, Trainer
from services.api.http.idempotency import REPLAYED, Answer, IdempotencyKey, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import Accepted, PathId
from services.api.jobs.views import release_line, release_view
from services.api.releases import service
from services.api.releases.edit import edited_release
from services.api.releases.schemas import PromoteRequest, ReleaseEdit, RollbackRequest
from services.api.training import rebuild as training

router = APIRouter(prefix="/v1/releases", tags=["releases"], route_class=KeyedRoute)


@router.get("")
async def list_releases(clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """List all releases, oldest first."""
    found, current_id = await asyncio.to_thread(service.releases, clients, caller.tenant_id)
    return {"current": current_id or None, "items": [release_line(release, current_id) for release in found]}


@router.get("/current")
async def current(clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """Show the release that new jobs run under."""
    await clients.releases.refresh(caller.tenant_id)
    known = await clients.releases.current(caller.tenant_id)
    return release_view(known.release, known.id)


@router.get("/{release_id}")
async def show(release_id: PathId, clients: ClientsDep, caller: Caller) -> dict[str, Any]:
    """Show one release with all its fields."""
    release, current_id = await asyncio.to_thread(service.release, clients, caller.tenant_id, release_id)
    return release_view(release, current_id)


@router.post("/edit", status_code=201)
async def edit(clients: ClientsDep, caller: Trainer, once: OnceDep, body: ReleaseEdit) -> JSONResponse:
    """Make a candidate of the current release, or of another one, by hand."""

    async def work() -> Answer:
        made = await asyncio.to_thread(edited_release, clients, caller, body)
        return Answer(201, release_view(made, ""), {"Location": f"/v1/releases/{made.id}"})

    return await once(body.model_dump(mode="json"), work)


@router.post("/rollback")
async def rollback(
    clients: ClientsDep, caller: Promoter, once: OnceDep, body: RollbackRequest | None = None
) -> JSONResponse:
    """Return to the current release's parent, or to any release that was current before."""
    request = body or RollbackRequest()

    async def work() -> Answer:
        return await service.rollback(clients, caller, request.to, force=request.force)

    return await once(request.model_dump(exclude_defaults=True), work)


@router.post("/{release_id}/promote")
async def promote(
    release_id: PathId, clients: ClientsDep, caller: Promoter, once: OnceDep, body: PromoteRequest | None = None
) -> JSONResponse:
    """Make a candidate the current release, in one atomic step."""
    force = bool(body and body.force)
    service.check_force(caller, force=force)  # before another key's answer is looked up

    async def work() -> Answer:
        return await service.promote(clients, caller, release_id, force=force)

    return await once({"force": force}, work)


@router.post("/{release_id}/rebuild", status_code=202)
async def rebuild(
    release_id: PathId, response: Response, clients: ClientsDep, caller: Trainer, key: IdempotencyKey = None
) -> Accepted:
    """Train a candidate anew on the current release, with the same data and settings: its parent was replaced."""
    job, replayed = await training.rebuild(clients, caller, release_id, key)
    response.headers["Location"] = job.url
    if replayed:
        response.headers[REPLAYED] = "true"
    return job


@router.delete("/{release_id}", status_code=204)
async def remove(release_id: PathId, clients: ClientsDep, caller: Promoter) -> None:
    """Delete a release that is not current, and that no unfinished job runs under or starts from."""
    await asyncio.to_thread(clients.registry.removal.release, caller.tenant_id, release_id)
