"""`/v1/proposals`, and `/v1/audit`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from services.api.http.auth import Admin, ClientsDep, Reader, Trainer, TrainingReader
from services.api.http.idempotency import Answer, OnceDep
from services.api.http.keyed_route import KeyedRoute
from services.api.jobs.schemas import PathId
from services.api.proposals import service
from services.api.proposals.schemas import AuditPage, ConfirmRequest, DismissRequest, PolicyView, ProposalView
from shared.contracts.proposals import ProposalPolicy, ProposalState

router = APIRouter(prefix="/v1", tags=["proposals"], route_class=KeyedRoute)
Before = Annotated[
    str, Query(max_length=26, pattern=r"^([0-9]{1,16}-[0-9]{1,9})?$", description="`next` of the page before")
]
AuditLimit = Annotated[int, Query(ge=1, le=500)]


@router.get("/proposals")
async def list_proposals(
    clients: ClientsDep, caller: TrainingReader, state: ProposalState | None = None
) -> dict[str, Any]:
    """List what traffic proposes to do, newest first."""
    return {"items": await service.list_all(clients, caller, state)}


@router.get("/proposals/policy")
async def show_policy(clients: ClientsDep, caller: TrainingReader) -> PolicyView:
    """Show what traffic may do by itself, and how far the log is reviewed."""
    return await service.policy(clients, caller)


@router.put("/proposals/policy")
async def set_policy(clients: ClientsDep, caller: Admin, policy: ProposalPolicy) -> PolicyView:
    """Replace what traffic may do by itself; it is carried out with this key."""
    return await service.set_policy(clients, caller, policy)


@router.get("/proposals/{proposal_id}")
async def show(proposal_id: PathId, clients: ClientsDep, caller: TrainingReader) -> ProposalView:
    """Show one proposal: why, with numbers and examples, what it costs, what it would do."""
    return await service.show(clients, caller, proposal_id)


@router.post("/proposals/{proposal_id}/confirm", status_code=202)
async def confirm(
    proposal_id: PathId, clients: ClientsDep, caller: Trainer, once: OnceDep, body: ConfirmRequest | None = None
) -> JSONResponse:
    """Carry a proposal out: queue its training, or make its candidate."""
    request = body or ConfirmRequest()

    async def work() -> Answer:
        made = await service.confirm(clients, caller, proposal_id, request)
        return Answer(202, made.model_dump(mode="json"))

    return await once({"confirm": proposal_id, **request.model_dump(mode="json")}, work)


@router.post("/proposals/{proposal_id}/dismiss")
async def dismiss(
    proposal_id: PathId, clients: ClientsDep, caller: Trainer, body: DismissRequest | None = None
) -> ProposalView:
    """Let a proposal stay away until its release is no longer current, or 30 days have passed."""
    return await service.dismiss(clients, caller, proposal_id, (body or DismissRequest()).reason)


@router.get("/audit")
async def audit(clients: ClientsDep, caller: Reader, before: Before = "", limit: AuditLimit = 100) -> AuditPage:
    """List each step of what traffic led to, newest first, with who or what decided it."""
    return await service.audit(clients, caller, before, limit)
