"""Proposals: what traffic teaches, as cards with their reasons, to be confirmed or dismissed; policy and audit log."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse
from pydantic import TypeAdapter

from services.api.console.forms import checked, number
from services.api.console.rendering import page
from services.api.console.sessions import Admin, Trainer, TrainingViewer, Visitor
from services.api.http.auth import ClientsDep
from services.api.jobs.schemas import PathId
from services.api.proposals import service
from services.api.proposals.schemas import ConfirmRequest, DismissRequest, ProposalView
from shared.contracts.proposals import ProposalPolicy
from shared.security.api_keys import Scope

router = APIRouter(prefix="/proposals")
MODES = {
    "observe": "note what would be proposed",
    "propose": "wait for a person",
    "train": "train, and stop at the candidate",
    "auto": "train, and bring what passes the gate through a canary",
}
KINDS = {
    "retrain": "Train the selector anew",
    "balance": "Balance the selector",
    "add": "Add a label",
    "delete": "Delete a label",
    "raise_threshold": "Raise the threshold",
    "lower_threshold": "Lower the threshold",
    "split_group": "Split a group",
}
_AUDITED = 50
_SHOWN_ENDED = 20
_CONFIRM: TypeAdapter[ConfirmRequest] = TypeAdapter(ConfirmRequest)
_DISMISS: TypeAdapter[DismissRequest] = TypeAdapter(DismissRequest)
_POLICY: TypeAdapter[ProposalPolicy] = TypeAdapter(ProposalPolicy)


@router.get("")
async def overview(request: Request, clients: ClientsDep, visitor: TrainingViewer) -> HTMLResponse:
    """Show the page."""
    found = await service.list_all(clients, visitor.key)
    going = [await service.show(clients, visitor.key, one.id) for one in found if not one.state.is_final]
    ended = [one for one in found if one.state.is_final]
    entries = []
    if visitor.key.may(Scope.READ):
        entries = (await service.audit(clients, visitor.key, "", _AUDITED)).items
    return page(
        request,
        "proposals.html",
        going=going,
        ended=ended[:_SHOWN_ENDED],
        entries=entries,
        policy=await service.policy(clients, visitor.key),
        **_words(visitor),
    )


@router.post("/policy")
async def set_policy(
    request: Request,
    clients: ClientsDep,
    visitor: Admin,
    mode: Annotated[str, Form(max_length=16)],
    rows: Annotated[str, Form(max_length=8)],
) -> HTMLResponse:
    """Let another policy hold; what the page does not ask for stays."""
    known = (await service.policy(clients, visitor.key)).model_dump(include={"ask", "canary"})
    wanted = checked(_POLICY, {**known, "mode": mode, "review_every_rows": number(rows, int)})
    policy = await service.set_policy(clients, visitor.key, wanted)
    return page(request, "proposals_policy.html", policy=policy, is_set=True, **_words(visitor))


@router.post("/{proposal_id}/confirm")
async def confirm(
    request: Request,
    proposal_id: PathId,
    clients: ClientsDep,
    visitor: Trainer,
    label: Annotated[str, Form(max_length=65)] = "",
    dataset: Annotated[str, Form(max_length=64)] = "",
    confirm_cost: Annotated[bool, Form()] = False,
) -> HTMLResponse:
    """Carry one out."""
    sent = {"label": label.strip() or None, "dataset": dataset.strip() or None, "confirm_cost": confirm_cost}
    made = await service.confirm(clients, visitor.key, proposal_id, checked(_CONFIRM, sent))
    return _card(request, visitor, made)


@router.post("/{proposal_id}/dismiss")
async def dismiss(
    request: Request,
    proposal_id: PathId,
    clients: ClientsDep,
    visitor: Trainer,
    reason: Annotated[str, Form(max_length=500)] = "",
) -> HTMLResponse:
    """Let one stay away."""
    asked = checked(_DISMISS, {"reason": reason})
    return _card(request, visitor, await service.dismiss(clients, visitor.key, proposal_id, asked.reason))


@router.get("/{proposal_id}")
async def one(request: Request, proposal_id: PathId, clients: ClientsDep, visitor: TrainingViewer) -> HTMLResponse:
    """Show one proposal, with its events."""
    found = await service.show(clients, visitor.key, proposal_id)
    return page(request, "proposal.html", proposal=found, **_words(visitor))


def _card(request: Request, visitor: Visitor, proposal: ProposalView) -> HTMLResponse:
    return page(request, "proposal_card.html", proposal=proposal, **_words(visitor))


def _words(visitor: Visitor) -> dict[str, Any]:
    return {"kinds": KINDS, "modes": MODES, "may": visitor.key.may(Scope.TRAIN)}
