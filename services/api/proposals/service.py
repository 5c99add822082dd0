"""Operations on proposals: list, show, confirm, dismiss; the policy; the audit log."""

import asyncio
import time
from typing import Any

import structlog

from services.api.infra.clients import Clients
from services.api.proposals import acting
from services.api.proposals.schemas import (
    AuditPage,
    AuditView,
    ConfirmRequest,
    Example,
    PolicyView,
    ProposalView,
)
from services.api.proposals.steps import Under, advance, write
from services.api.training import service as training
from shared.contracts.manifests import Release
from shared.contracts.proposals import (
    MAX_EXAMPLES,
    Act,
    AuditEntry,
    Proposal,
    ProposalPolicy,
    ProposalState,
)
from shared.errors import Conflict, Invalid, SignalboxError
from shared.ledger import calls
from shared.ledger.keys import LedgerKey
from shared.security.api_keys import Key, Scope

log = structlog.get_logger()
S = ProposalState


async def list_all(clients: Clients, caller: Key, state: ProposalState | None = None) -> list[ProposalView]:
    """Return the tenant's proposals, the newest first."""
    found = await clients.ledger.do(calls.proposals(caller.tenant_id))
    return [ProposalView.of(one) for one in found if state in (None, one.state)]


async def show(clients: Clients, caller: Key, proposal_id: str) -> ProposalView:
    """Return one proposal, with its examples' texts where the key may read the log; raises `NotFound`."""
    return await shown(clients, caller, await clients.ledger.do(calls.proposal(caller.tenant_id, proposal_id)))


async def shown(clients: Clients, caller: Key, proposal: Proposal) -> ProposalView:
    """Return a proposal as `show` does."""
    entries = proposal.entries[:MAX_EXAMPLES]
    texts = {}
    if entries and caller.may(Scope.READ):
        texts = await asyncio.to_thread(clients.registry.traffic.texts, caller.tenant_id, entries)
    examples = [Example(entry=one, text=texts[one].text if one in texts else None) for one in entries]
    return ProposalView.of(proposal, examples)


async def confirm(clients: Clients, caller: Key, proposal_id: str, request: ConfirmRequest) -> ProposalView:
    """Carry a proposal out, with the caller's key.

    Raises `NotFound`; `Conflict` `proposal_confirmed`, `proposal_outdated`, `proposal_rows_gone`; `Invalid`
    `change_unfit`; `Denied`; and what the training's submission raises.
    """
    proposal = await clients.ledger.do(calls.proposal(caller.tenant_id, proposal_id))
    learner = await clients.ledger.do(calls.learner(caller.tenant_id))
    await clients.releases.refresh(caller.tenant_id)
    under = Under(learner.policy, learner.key, await clients.releases.current(caller.tenant_id))
    _check_open(proposal, under)
    if proposal.kind == "add":
        caller.check(Scope.REVIEW)  # its rows become training data
    changed = await _changed(clients, caller, proposal, request)
    for body in changed.act.trainings:
        await training.checked(clients, caller, acting.training_of(body))
    confirmed = changed.entered(
        S.CONFIRMED,
        time.time(),
        caller.id,
        " ".join(changed.why),
        key=caller.id,
        round=proposal.round + (proposal.state is not S.OPEN),
        jobs=(),
        candidate="",
        rollout="",
    )
    try:
        await write(clients, confirmed)
    except calls.ProposalMoved:
        _check_open(await clients.ledger.do(calls.proposal(caller.tenant_id, proposal_id)), under)
        raise
    log.info("proposal_confirmed", proposal=proposal.id, kind=proposal.kind, key=caller.id)
    return await shown(clients, caller, await _begun(clients, confirmed, under))


async def _begun(clients: Clients, confirmed: Proposal, under: Under) -> Proposal:
    """Take its first step now; where that has to wait, or the controller was faster, it goes on by itself."""
    try:
        return await advance(clients, confirmed, under)
    except calls.ProposalMoved:
        return await clients.ledger.do(calls.proposal(confirmed.tenant_id, confirmed.id))
    except SignalboxError as error:
        log.warning("proposal_waits", proposal=confirmed.id, why=error.detail)
        return confirmed


def _check_open(proposal: Proposal, under: Under) -> None:
    if proposal.state in (S.CONFIRMED, S.TRAINING, S.CANDIDATE, S.ROLLING_OUT, S.DONE):
        led = f"job {proposal.jobs[-1]}" if proposal.jobs else f"candidate {proposal.candidate}"
        led = led if proposal.jobs or proposal.candidate else "its job is being queued"
        raise Conflict(
            "proposal_confirmed", f"proposal {proposal.id} is {proposal.state} already: look at {led}, not at a second"
        )
    if proposal.state is S.OUTDATED or proposal.release != under.current.id:
        raise Conflict(
            "proposal_outdated",
            f"proposal {proposal.id} is about release {proposal.release}, and {under.current.id} is current: wait for "
            "the next review",
        )


async def _changed(clients: Clients, caller: Key, proposal: Proposal, request: ConfirmRequest) -> Proposal:
    """Return the proposal with what the request changes, and of an `add` with its data set."""
    is_add = proposal.kind == "add"
    if not is_add and (request.label or request.dataset):
        raise Invalid("change_unfit", f"only an `add` takes label and dataset: leave them out of a {proposal.kind}")
    if request.retention is not None and proposal.kind not in ("add", "balance", "delete"):
        raise Invalid("change_unfit", f"a {proposal.kind} retains no rows: leave retention out")
    more: dict[str, Any] = {"retention": request.retention} if request.retention is not None else {}
    if request.confirm_cost:
        more["confirm_cost"] = True
    if not is_add:
        return proposal.model_copy(update={"act": _with(proposal.act, more)})
    label = request.label or proposal.labels[0]
    dataset = proposal.dataset if proposal.labels == (label,) else ""
    if not dataset:
        made = await asyncio.to_thread(acting.make_dataset, clients, proposal, label, caller.id)
        dataset = made.id
    act = _with(_added(proposal, label, dataset, request.dataset), more)
    return proposal.model_copy(update={"labels": (label,), "dataset": dataset, "act": act})


def _added(proposal: Proposal, label: str, dataset: str, answers: str | None) -> Act:
    """The trainings of a new label: its selector's, and where there are answers, its adapter's before it ends."""
    body = {"kind": "selector.add", "labels": {label: dataset}, "parent": proposal.release}
    if answers is None:
        return Act(trainings=({**body, "missing_adapters": "allow"},))
    return Act(trainings=({"kind": "adapter.train", "label": label, "dataset": answers}, body))


def _with(act: Act, more: dict[str, Any]) -> Act:
    """The act with members for its selector's training; only `confirm_cost` is for every training."""
    cost = {name: more[name] for name in ("confirm_cost",) if name in more}
    trainings = [{**body, **cost} for body in act.trainings]
    return act.model_copy(update={"trainings": (*trainings[:-1], *({**body, **more} for body in trainings[-1:]))})


async def dismiss(clients: Clients, caller: Key, proposal_id: str, reason: str) -> ProposalView:
    """Let a proposal stay away until its release is no longer current, or 30 days have passed.

    Raises `NotFound`, `Conflict` `proposal_confirmed`, `proposal_ended`.
    """
    proposal = await clients.ledger.do(calls.proposal(caller.tenant_id, proposal_id))
    if proposal.state.is_at_work:
        led = f"cancel job {proposal.jobs[-1]}" if proposal.state is S.TRAINING else "abort its rollout"
        raise Conflict("proposal_confirmed", f"proposal {proposal.id} is {proposal.state}: {led} instead")
    if proposal.state.is_final and proposal.state is not S.FAILED:
        raise Conflict("proposal_ended", f"proposal {proposal.id} is {proposal.state}: leave it")
    dismissed = proposal.entered(S.DISMISSED, time.time(), caller.id, reason)
    await write(clients, dismissed)
    return await shown(clients, caller, dismissed)


async def policy(clients: Clients, caller: Key) -> PolicyView:
    """Return the tenant's policy, and how far its log is reviewed."""
    return PolicyView.of(await clients.ledger.do(calls.learner(caller.tenant_id)))


async def set_policy(clients: Clients, caller: Key, wanted: ProposalPolicy) -> PolicyView:
    """Let a policy hold, carried out with the caller's key; raises `Conflict` `gate_missing` for `auto` without one."""
    if wanted.mode == "auto":
        fault = acting.gate_fault(clients.settings, await _release(clients, caller.tenant_id))
        if fault:
            raise Conflict("gate_missing", f"{fault}; until then take the mode `train`, which stops at the candidate")
    before = await clients.ledger.do(calls.learner(caller.tenant_id))
    entry = AuditEntry(
        at=time.time(), by=caller.id, what="policy", detail=f"{wanted.mode} instead of {before.policy.mode}"
    )
    await clients.ledger.do(calls.follow_log(caller.tenant_id, wanted, caller.id, [entry]))
    log.info("proposal_policy_set", tenant_id=caller.tenant_id, key=caller.id, mode=wanted.mode)
    return await policy(clients, caller)


async def _release(clients: Clients, tenant_id: str) -> Release | None:
    try:
        await clients.releases.refresh(tenant_id)
        return (await clients.releases.current(tenant_id)).release
    except Conflict:
        return None


async def audit(clients: Clients, caller: Key, before: str, limit: int) -> AuditPage:
    """Return a page of the tenant's audit log, newest first."""
    key = LedgerKey.AUDIT.of(caller.tenant_id)
    found: Any = await clients.ledger.redis.xrevrange(key, max=f"({before}" if before else "+", count=limit)
    items = [AuditView(id=place, **AuditEntry.model_validate_json(kept["entry"]).model_dump()) for place, kept in found]
    return AuditPage(items=items, next=items[-1].id if len(items) == limit else None)
