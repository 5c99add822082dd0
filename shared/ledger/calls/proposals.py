"""Proposals, who follows a tenant's log, and the audit log (`lua/proposals.lua`)."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.contracts.labels import STORED
from shared.contracts.proposals import AuditEntry, Learning, Proposal, ProposalPolicy
from shared.errors import Conflict, NotFound, SignalboxError
from shared.ledger.calls.base import Call, Reply, never, nothing


class ProposalMoved(Conflict):
    """Somebody wrote the proposal since it was read: read it again, then decide."""


class StaleLearner(Conflict):
    """Another process follows this log now: write nothing."""


class Learner(NamedTuple):
    """What a tenant's traffic may do, the id of the key that does it (none: nobody follows the log), how far it is."""

    policy: ProposalPolicy
    key: str
    learning: Learning


class TakenLearner(NamedTuple):
    """A tenant's log under a lease: `fence` is the lease's number, under which its writes are taken."""

    tenant_id: str
    fence: int


def follow_log(
    tenant_id: str, policy: ProposalPolicy, key: str, audit: Sequence[AuditEntry] = (), *, only_new: bool = False
) -> Call[None]:
    """Let a policy hold, which the key of this id carries out; with `only_new`, where none does yet."""
    args = {"tenant_id": tenant_id, "policy": policy.model_dump_json(), "key": key, "only_new": only_new}
    return Call("follow_log", {**args, "audit": _dumped(audit)}, nothing, never)


def learner(tenant_id: str) -> Call[Learner]:
    """Read a tenant's policy and how far its log is reviewed."""

    def read(reply: Reply) -> Learner:
        policy, learning = reply["policy"], reply["learning"]
        return Learner(
            ProposalPolicy.read(policy) if policy else ProposalPolicy(),
            reply["key"],
            Learning.model_validate_json(learning) if learning else Learning(),
        )

    return Call("learner", {"tenant_id": tenant_id}, read, never)


def take_learner(lease_seconds: float) -> Call[TakenLearner | None]:
    """Lease a tenant's log that nobody follows; None where there is none."""

    def read(reply: Reply) -> TakenLearner | None:
        taken = reply.get("taken")
        return TakenLearner(taken["tenant_id"], int(taken["fence"])) if taken else None

    return Call("take_learner", {"lease_ms": lease_seconds * 1000}, read, never)


def write_learner(
    taken: TakenLearner, lease_seconds: float, learning: Learning | None = None, audit: Sequence[AuditEntry] = ()
) -> Call[None]:
    """Note how far the log is reviewed, where it changed, and renew the lease; raises `StaleLearner`."""

    def stale(_: Reply) -> SignalboxError:
        return StaleLearner("learner_lost", "another process follows this log now: leave it to that one")

    args = {
        **taken._asdict(),
        "lease_ms": lease_seconds * 1000,
        "learning": learning.model_dump_json() if learning else "",
        "audit": _dumped(audit),
    }
    return Call("write_learner", args, nothing, stale)


def write_proposal(
    proposal: Proposal, audit: Sequence[AuditEntry] = (), *, event: str = "", drop: Sequence[str] = ()
) -> Call[None]:
    """Write the next version of a proposal; raises `ProposalMoved`. `drop` are ids of others that are forgotten.

    `event` names what webhooks are told.
    """

    def moved(_: Reply) -> SignalboxError:
        return ProposalMoved(
            "proposal_moved", f"proposal {proposal.id} was changed meanwhile: look at it again, then decide"
        )

    args = {
        **proposal.model_dump(mode="json", include={"id", "tenant_id", "version", "kind", "state", "release"}),
        "record": proposal.model_dump_json(context=STORED),
        "audit": _dumped(audit),
        "event": event,
        "drop": list(drop),
    }
    return Call("write_proposal", args, nothing, moved)


def proposals(tenant_id: str) -> Call[list[Proposal]]:
    """Return a tenant's proposals, the newest first."""

    def read(reply: Reply) -> list[Proposal]:
        found = [Proposal.model_validate_json(record) for record in reply["proposals"] or []]
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)

    return Call("proposals", {"tenant_id": tenant_id}, read, never)


def proposal(tenant_id: str, proposal_id: str) -> Call[Proposal]:
    """Return one proposal; raises `NotFound`."""

    def read(reply: Reply) -> Proposal:
        if not reply["proposal"]:
            raise NotFound("proposal_not_found", f"no proposal {proposal_id!r}; `signalbox proposals list` shows them")
        return Proposal.model_validate_json(reply["proposal"])

    return Call("proposal", {"tenant_id": tenant_id, "id": proposal_id}, read, never)


def _dumped(entries: Sequence[AuditEntry]) -> list[str]:
    return [entry.model_dump_json() for entry in entries]
