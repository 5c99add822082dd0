"""A review's wishes as proposals: new ones are opened, open ones get newer numbers, dismissed ones stay away."""

import time
from collections.abc import Sequence
from typing import Any

import structlog

from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.proposals.acting import quoted_cost
from services.api.proposals.findings import gather
from services.api.proposals.rules import wishes
from shared.contracts.proposals import DISMISSED_SECONDS, AuditEntry, Proposal, ProposalState, Wish
from shared.contracts.reviews import ReviewResult
from shared.errors import SignalboxError
from shared.ledger import calls
from shared.ledger.calls import Learner
from shared.security.api_keys import Key

log = structlog.get_logger()
MOST_KEPT = 300
"""Proposals of a tenant; of more, those that ended first are forgotten."""
CONTROLLER = "controller"
_FRESH = ("why", "numbers", "entries", "task", "cost", "act")
"""What another look changes of an open proposal."""


async def derive(
    clients: Clients, caller: Key, learner: Learner, current: CurrentRelease, review: ReviewResult
) -> list[AuditEntry]:
    """Open and update proposals by a review; returns what is to be noted besides, with the end of the review.

    Raises `Unavailable`.
    """
    known = await clients.ledger.do(calls.proposals(caller.tenant_id))
    audit = [_noted("review", f"of {review.rows} rows: {len(review.changes)} changes, {len(review.tasks)} new tasks")]
    if review.release != current.id:
        return [*audit, _noted("review_outdated", f"it is about {review.release}, {current.id} is current")]
    evidence = await gather(clients, caller.tenant_id, current, review, known)
    by_wish = {(one.kind, frozenset(one.labels)): one for one in known if one.release == current.id}
    spare = _spare(known)
    for wish in wishes(evidence):
        try:
            wished = wish._replace(cost=await quoted_cost(clients, caller, wish.kind, wish.act))
        except SignalboxError as error:
            if error.retryable:
                raise
            audit.append(_noted("impossible", f"{wish.kind} of {', '.join(wish.labels)}: {error.detail}"))
            continue
        before = by_wish.get((wish.kind, frozenset(wish.labels)))
        proposal = proposed(before, wished, caller.tenant_id, current.id)
        if learner.policy.mode == "observe":
            audit.append(_noted("observed", f"{wish.kind} of {', '.join(wish.labels)}: {' '.join(wish.why)}", wish))
        elif proposal:
            await _write(clients, proposal, wish, spare)
    return audit


def proposed(known: Proposal | None, wish: Wish, tenant_id: str, release: str) -> Proposal | None:
    """Return the next version of the proposal that a wish is; None where nothing is to be written."""
    fresh: dict[str, Any] = {name: getattr(wish, name) for name in _FRESH}
    now = time.time()
    if known is None:
        made = Proposal(
            id=wish.id_of(tenant_id, release),
            tenant_id=tenant_id,
            release=release,
            kind=wish.kind,
            labels=wish.labels,
            created_at=now,
        )
        return made.told(now, "opened", CONTROLLER, **fresh)
    if known.state is ProposalState.OPEN:
        is_same = all(getattr(known, name) == value for name, value in fresh.items())
        return None if is_same else known.told(now, "updated", CONTROLLER, **fresh)
    is_rolled_back_to = known.state is ProposalState.OUTDATED
    if known.state.is_final and (is_rolled_back_to or now - known.ended_at >= DISMISSED_SECONDS):
        return known.entered(ProposalState.OPEN, now, CONTROLLER, round=known.round + 1, **_BLANK, **fresh)
    return None


_BLANK: dict[str, Any] = {"jobs": (), "candidate": "", "rollout": "", "dataset": "", "key": ""}


async def _write(clients: Clients, proposal: Proposal, wish: Wish, spare: Sequence[str]) -> None:
    what = proposal.events[-1].what
    is_new = what in ("opened", ProposalState.OPEN)
    entry = _noted("opened" if is_new else what, f"{wish.kind}: {' '.join(wish.why)}", wish, proposal.id)
    event = "proposal.opened" if is_new else ""
    try:
        await clients.ledger.do(calls.write_proposal(proposal, [entry], event=event, drop=spare))
    except calls.ProposalMoved:
        log.info("proposal_moved", proposal=proposal.id)  # somebody has just decided about it


def _spare(known: Sequence[Proposal]) -> list[str]:
    """The proposals beyond what is kept, those first that ended first; `known` are the newest first."""
    ended = sorted((one for one in known if one.state.is_final), key=lambda one: one.ended_at)
    return [one.id for one in ended[: max(0, len(known) - MOST_KEPT)]]


def _noted(what: str, detail: str, wish: Wish | None = None, proposal: str = "") -> AuditEntry:
    return AuditEntry(
        at=time.time(),
        by=CONTROLLER,
        what=what,
        detail=detail,
        proposal=proposal,
        numbers=wish.numbers if wish else {},
    )
