"""`/v1/rebases`."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from services.api.http.auth import ClientsDep, Trainer, TrainingReader
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import PathId
from services.api.rebases import service
from services.api.rebases.schemas import RebaseRequest, RebaseView

router = APIRouter(prefix="/v1/rebases", tags=["rebases"], route_class=KeyedRoute)


@router.post("", status_code=202)
async def begin(clients: ClientsDep, caller: Trainer, once: OnceDep, request: RebaseRequest) -> JSONResponse:
    """Train a release's adapters and selector anew on another base model; with `dry_run`, answer the plan alone (200).

    The same request again goes on where the rebase was; after it has ended, it trains what had failed.
    """

    async def work() -> Answer:
        if request.dry_run:
            _, plan = await service.planned(clients, caller, request)
            return Answer(200, plan.shown.model_dump(mode="json"))
        made = await service.begin(clients, caller, request)
        return Answer(202, made.model_dump(mode="json"), {"Location": f"/v1/rebases/{made.id}"})

    return await once(request.model_dump(mode="json"), work)


@router.get("")
async def list_rebases(clients: ClientsDep, caller: TrainingReader) -> dict[str, Any]:
    """List rebases, newest first, as long as their jobs are kept."""
    return {"items": [one.model_dump(mode="json") for one in await service.listed(clients, caller)]}


@router.get("/{rebase_id}")
async def show(rebase_id: PathId, clients: ClientsDep, caller: TrainingReader) -> RebaseView:
    """Show one rebase: by label its training, and the adapter and its routing, old against new."""
    return await service.show(clients, caller, rebase_id)


@router.post("/{rebase_id}/cancel", status_code=202)
async def cancel(rebase_id: PathId, clients: ClientsDep, caller: Trainer) -> RebaseView:
    """Cancel the trainings of a rebase that have not ended; adapters that are trained already stay."""
    return await service.cancel(clients, caller, rebase_id)
