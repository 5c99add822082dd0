"""Attempts, their leases, and the jobs to send again (`lua/leases.lua`)."""

import secrets
from collections.abc import Sequence
from typing import Any, Literal

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

Leading = Literal["no", "still", "anew"]


def acquire_next(queue: str, owner: str, lease_seconds: float) -> Call[Job]:
    """Start an attempt at the job whose turn it is in the queue. A repeated call returns the same attempt.

    Raises `NotAcquired` where no job waits, and `MustRunAlone` where the job is on its last attempt before it is given
    up: the ledger keeps it aside, for four times `lease_seconds`, until the caller acquires it alone.
    """

    def read(reply: Reply) -> Job:
        if "alone" in reply:
            raise MustRunAlone(reply["alone"])
        if "job" not in reply:
            raise NotAcquired("nothing_waits", f"no job waits in {queue}")
        return Job.from_hash(reply["job"])

    return Call("acquire_next", {"queue": queue} | _attempt(owner, lease_seconds), read, never)


def acquire(job_id: str, queue: str, owner: str, lease_seconds: float) -> Call[Job]:
    """Start an attempt at one job; raises `NotAcquired` where it cannot start. A repeated call returns the same one."""

    def refused(reply: Reply) -> SignalboxError:
        return NotAcquired(f"job_{reply['refused']}", f"job {job_id} is {reply['refused']}")

    args = {"id": job_id, "queue": queue} | _attempt(owner, lease_seconds)
    return Call("acquire", args, lambda reply: Job.from_hash(reply["job"]), refused)


def _attempt(owner: str, lease_seconds: float) -> dict[str, Any]:
    return {"owner": owner, "lease_ms": lease_seconds * 1000, "try": secrets.token_hex(8)}


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


def lead(owner: str, ttl_seconds: float) -> Call[Leading]:
    """Take or renew the lock of the one process that reconciles, for `ttl_seconds`."""
    args = {"owner": owner, "ttl_ms": ttl_seconds * 1000}
    return Call("lead", args, lambda reply: reply["leading"], never)


def leave_queues(owner: str, queues: Sequence[str]) -> Call[None]:
    """Remove this process from the consumers of its queues."""
    return Call("leave_queues", {"owner": owner, "queues": list(queues)}, nothing, never)


def expire(queue: str, limit: int = 1000) -> Call[list[Sent]]:
    """End expired leases, fail jobs that waited past their deadline, and return the jobs to send again.

    The call blocks the ledger for 0.1 ms per job: repeat it until it returns an empty list.
    """
    return Call("expire", {"queue": queue, "limit": limit}, lambda reply: all_to_send(reply["again"]), never)
