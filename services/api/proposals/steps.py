"""One proposal's next step, written with its reason: jobs are queued, their ends noted, candidates rolled out.

A step that is done twice, by a process that was killed in between, does nothing twice.
"""

import asyncio
import time
from typing import NamedTuple

from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.infra.tenant_keys import acting_key
from services.api.proposals import acting
from services.api.proposals.derive import CONTROLLER
from services.api.training.service import remembered
from shared.contracts.jobs import JobState
from shared.contracts.proposals import Act, AuditEntry, Proposal, ProposalPolicy, ProposalState
from shared.errors import Conflict, SignalboxError
from shared.ledger import calls

S = ProposalState
_UPDATES = ("selector.add", "selector.delete")
_WAITS = ("rollout_open", "release_not_served", "group_without_worker", "adapter_missing")
"""Why a rollout does not begin yet, though nothing is wrong with the candidate."""


class Under(NamedTuple):
    """What a tenant's proposals are carried out under."""

    policy: ProposalPolicy
    key: str
    """Id of the key that carries the policy out."""
    current: CurrentRelease


async def advance(clients: Clients, proposal: Proposal, under: Under) -> Proposal:
    """Return the proposal after its next step, or as it is where there is none yet.

    Raises `ProposalMoved`, and what a later try may mend.
    """
    try:
        moved = await _next(clients, proposal, under)
    except calls.ProposalMoved:
        raise
    except SignalboxError as error:
        if error.retryable:
            raise
        moved = _over(proposal, S.FAILED, error.detail)
    if moved is not None:
        await write(clients, moved)
    return moved or proposal


async def _next(clients: Clients, proposal: Proposal, under: Under) -> Proposal | None:
    if proposal.candidate and proposal.candidate == under.current.id and not proposal.state.is_final:
        return _over(proposal, S.DONE, "its candidate is current")
    if proposal.release != under.current.id and proposal.state in (S.OPEN, S.CONFIRMED, S.CANDIDATE):
        return _carried(proposal, under.current) or _over(
            proposal, S.OUTDATED, f"release {under.current.id} is current now"
        )
    return await _worked(clients, proposal, under)


def _carried(proposal: Proposal, current: CurrentRelease) -> Proposal | None:
    """The confirmed proposal of a label that comes or goes, to be trained anew on the release of now.

    None where that is pointless, or nobody has decided yet.
    """
    known, labels = current.release.selected_labels, set(proposal.labels)
    is_due = {"add": not known & labels, "delete": labels <= known}.get(proposal.kind, False)
    if proposal.state is S.OPEN or not is_due:
        return None
    bodies = [{**body, "parent": current.id} for body in proposal.act.trainings if body["kind"] in _UPDATES]
    return proposal.entered(
        S.CONFIRMED,
        time.time(),
        CONTROLLER,
        f"release {current.id} is current now: it is trained anew",
        release=current.id,
        act=Act(trainings=tuple(bodies)),
        round=proposal.round + 1,
        candidate="",
        jobs=(),
    )


async def _worked(clients: Clients, proposal: Proposal, under: Under) -> Proposal | None:
    match proposal.state:
        case S.CONFIRMED:
            return await _begun(clients, proposal)
        case S.TRAINING:
            return await _trained(clients, proposal)
        case S.CANDIDATE:
            return await _offered(clients, proposal, under)
        case S.ROLLING_OUT:
            return await _rolled_out(clients, proposal)
    return None


async def _begun(clients: Clients, proposal: Proposal) -> Proposal:
    caller = await acting_key(clients, proposal.tenant_id, proposal.key)
    if caller is None:
        return _over(proposal, S.FAILED, f"key {proposal.key} is revoked or has expired: confirm it with another key")
    if proposal.act.edit is not None:
        release = await asyncio.to_thread(acting.edited, clients, caller, proposal)
        return _judged(proposal, release.id, release.verdict.passed, release.verdict.reasons)
    jobs = await acting.queue(clients, caller, proposal)
    return proposal.entered(S.TRAINING, time.time(), proposal.key, f"job {jobs[-1]}", jobs=jobs)


async def _trained(clients: Clients, proposal: Proposal) -> Proposal | None:
    job = await remembered(clients, proposal.tenant_id, proposal.jobs[-1])
    if job and not job.state.is_final:
        return None
    if job and job.state is not JobState.SUCCEEDED:
        why = (job.error or {}).get("detail", f"it was {job.state}")
        return _over(proposal, S.FAILED, f"job {job.id} made no candidate: {why}")
    made = await asyncio.to_thread(acting.made_by, clients, proposal.tenant_id, proposal.jobs[-1])
    if made is None:
        return _over(proposal, S.FAILED, f"job {proposal.jobs[-1]} left no candidate: confirm the proposal again")
    return _judged(proposal, made.id, made.verdict.passed, made.verdict.reasons)


def _judged(proposal: Proposal, release: str, passed: bool, reasons: tuple[str, ...]) -> Proposal:
    if passed:
        return proposal.entered(S.CANDIDATE, time.time(), CONTROLLER, " ".join(reasons), candidate=release)
    note = f"candidate {release} did not pass the gate: {' '.join(reasons)}"
    return _over(proposal, S.FAILED, note, candidate=release)


async def _offered(clients: Clients, proposal: Proposal, under: Under) -> Proposal | None:
    """Follow a rollout of the candidate that somebody began; by the policy `auto`, begin one."""
    known = await acting.rollout_of(clients, proposal.tenant_id, proposal.candidate)
    if known and known.strategy == "canary":
        return _rolling(proposal, known.id, known.key)
    if known and not known.state.is_final:
        return _rolling(proposal, known.id, known.key)
    if under.policy.mode != "auto":
        return None
    return await _rollout_begun(clients, proposal, under)


async def _rollout_begun(clients: Clients, proposal: Proposal, under: Under) -> Proposal | None:
    caller = await acting_key(clients, proposal.tenant_id, under.key)
    if caller is None:
        return _noted(proposal, f"key {under.key} is revoked or has expired: set the policy with another one")
    if fault := acting.gate_fault(clients.settings, under.current.release):
        return _noted(proposal, fault)
    try:
        rollout = await acting.roll_out(clients, caller, proposal.candidate, under.policy.canary)
    except Conflict as error:
        if error.code not in _WAITS:
            raise
        return _noted(proposal, error.detail)
    return _rolling(proposal, rollout, under.policy.decider)


def _rolling(proposal: Proposal, rollout: str, by: str) -> Proposal:
    return proposal.entered(S.ROLLING_OUT, time.time(), by, f"rollout {rollout}", rollout=rollout)


def _noted(proposal: Proposal, note: str) -> Proposal | None:
    return None if proposal.note == note else proposal.told(time.time(), "waits", CONTROLLER, note, note=note)


async def _rolled_out(clients: Clients, proposal: Proposal) -> Proposal | None:
    known = await acting.rollout_of(clients, proposal.tenant_id, proposal.candidate)
    if known and not known.state.is_final:
        return None
    if known and known.state == "completed" and known.strategy == "canary":
        return _over(proposal, S.DONE, f"rollout {known.id} has completed")
    if known and known.state == "completed":
        return proposal.entered(S.CANDIDATE, time.time(), CONTROLLER, f"shadow {known.id} has completed")
    return _over(proposal, S.FAILED, f"rollout {proposal.rollout} took it back: {known.why if known else 'it is gone'}")


def _over(proposal: Proposal, state: ProposalState, note: str, **changes: str) -> Proposal:
    return proposal.entered(state, time.time(), CONTROLLER, note, **changes)


async def write(clients: Clients, proposal: Proposal) -> None:
    """Write a proposal with what its last event says as an entry of the audit log; raises `ProposalMoved`."""
    last = proposal.events[-1]
    entry = AuditEntry(
        at=last.at,
        by=last.by or CONTROLLER,
        what=last.what,
        proposal=proposal.id,
        detail=f"{proposal.kind} {', '.join(proposal.labels)}: {last.detail}".strip(": "),
        numbers=proposal.numbers if last.what == ProposalState.CONFIRMED else {},
    )
    has_ended = proposal.state.is_final and last.what == proposal.state
    await clients.ledger.do(calls.write_proposal(proposal, [entry], event="proposal.ended" if has_ended else ""))
