"""Attempts, their leases, and the jobs to send again (`lua/leases.lua`)."""

import secrets
from collections.abc import Sequence
from typing import Any

from shared.contracts.jobs import Job
from shared.errors import SignalboxError
from shared.ledger.calls.base import (
    Call,
    MustRunAlone,
    NotAcquired,
    Reply,
    Sent,
    Standing,
    all_to_send,
    dump,
    never,
    nothing,
)


def acquire(job_id: str, queue: str, owner: str, lease_seconds: float, *, beside_others: bool = False) -> Call[Job]:
    """Start an attempt; raises `NotAcquired` where there is nothing to do. A repeated call returns the same attempt.

    With `beside_others`, raises `MustRunAlone` where this is the last attempt before the job is given up.
    """

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "last_try":
            return MustRunAlone("job_last_try", f"job {job_id} has lost its workers before and must run alone")
        return NotAcquired(f"job_{reply['refused']}", f"job {job_id} is {reply['refused']}")

    args = {
        "id": job_id,
        "queue": queue,
        "owner": owner,
        "lease_ms": lease_seconds * 1000,
        "try": secrets.token_hex(8),
        "beside_others": beside_others,
    }
    return Call("acquire", args, lambda reply: Job.from_hash(reply["job"]), refused)


def heartbeat(
    owner: str, queues: Sequence[str], held: Sequence[tuple[str, int]], info: dict[str, Any], lease_seconds: float
) -> Call[list[Standing]]:
    """Renew the `held` leases (job id, attempt) and the owner's presence; returns the standing of each lease."""
    args = {
        "owner": owner,
        "queues": list(queues),
        "items": [list(item) for item in held],
        "info": dump(info),
        "lease_ms": lease_seconds * 1000,
    }
    return Call("heartbeat", args, lambda reply: list(reply["standing"] or []), never)


def leave_queues(owner: str, queues: Sequence[str]) -> Call[None]:
    """Remove this process from the consumers of its queues."""
    return Call("leave_queues", {"owner": owner, "queues": list(queues)}, nothing, never)


def expire(queue: str, limit: int = 1000) -> Call[list[Sent]]:
    """End expired leases, fail jobs that waited past their deadline, and return the jobs to send again.

    The call blocks the ledger for 0.1 ms per job: repeat it until it returns an empty list.
    """
    return Call("expire", {"queue": queue, "limit": limit}, lambda reply: all_to_send(reply["again"]), never)


def waiting_before(queue: str, before_ms: str, grace_seconds: float, limit: int = 10_000) -> Call[list[str]]:
    """List waiting jobs of a queue last sent before `before_ms`, or (where empty) longer ago than the grace time."""
    args = {"queue": queue, "before": before_ms, "grace_ms": grace_seconds * 1000, "limit": limit}
    return Call("waiting_before", args, lambda reply: list(reply["ids"] or []), never)


def mark_sent(queue: str, job_ids: Sequence[str]) -> Call[list[Sent]]:
    """Note that these jobs are sent again now; returns those of them that still wait in the queue."""
    return Call("mark_sent", {"queue": queue, "ids": list(job_ids)}, lambda reply: all_to_send(reply["again"]), never)
