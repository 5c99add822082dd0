"""From the creation of a job to its end (`lua/lifecycle.lua`)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from shared.contracts.jobs import Job, JobState, NewJob, Stage
from shared.contracts.packing import pack
from shared.errors import Conflict, Invalid, NotFound, SignalboxError, StaleAttempt, TooMany
from shared.ledger.calls.base import (
    Call,
    CancelledMeanwhile,
    Event,
    Reply,
    Sent,
    all_to_send,
    dump,
    gone,
    nothing,
    stale,
    to_send,
)
from shared.ledger.calls.retention import NO_BUDGET, TenantBudget


class Created(NamedTuple):
    """Whether the job existed before, and the job to send (None while it waits for other jobs)."""

    existing: bool
    send: Sent | None


def create(job: NewJob, ttl_seconds: int, *, max_waiting: int = 0, budget: TenantBudget = NO_BUDGET) -> Call[Created]:
    """Create a job; if its id exists, nothing is written, and a different body is refused.

    Raises `Conflict` `release_moved` where `job.release` is no longer the current release, and `TooMany` where
    `max_waiting` jobs wait (0 means no limit), or the tenant's jobs would take more bytes than its `budget`.
    """

    def read(reply: Reply) -> Created:
        if not reply["existing"]:
            return Created(False, to_send(reply["send"]) if "send" in reply else None)
        if not reply["same"]:
            raise Invalid(
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request; send the same body, or take a new key",
            )
        return Created(True, None)

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "release_moved":
            return Conflict("release_moved", "the current release changed while the job was accepted; try again")
        if reply["refused"] == "overloaded":
            return TooMany("too_many_waiting", f"{max_waiting} jobs wait already; try again later, or add workers")
        if reply["refused"] == "over_budget":
            return budget.exceeded(reply)
        return Invalid(reply["refused"], f"`after` names job {reply['id']}, which is unknown or did not succeed")

    body = pack(dump(job.body))
    args = {
        **job.model_dump(mode="json", exclude={"body", "deadline_seconds"}),
        "body": body,
        "bytes": job.kept_bytes(body),
        "trace": dump(job.trace) if job.trace else "",
        "priority": job.priority,
        "tokens": job.new_tokens,
        "deadline": job.deadline_seconds,
        "fingerprint": job.fingerprint,
        "ttl": ttl_seconds,
        "max_waiting": max_waiting,
        **budget.args,
    }
    return Call("create", args, read, refused)


def route(job: Job, *, queue: str, label: str, selection: dict[str, Any], events: Iterable[Event] = ()) -> Call[Sent]:
    """Move a selected job to the queue of its group; raises `StaleAttempt`, `CancelledMeanwhile`.

    The job's last `events` are written just before.
    """
    args = {
        "id": job.id,
        "attempt": job.attempt,
        "stage": Stage.GENERATE,
        "queue": queue,
        "label": label,
        "selection": dump(selection),
        "events": [[kind, dump(data)] for _, _, kind, data in events],
    }
    return Call("route", args, _waits(job), stale(job))


def finish(
    job: Job,
    state: JobState,
    events: Iterable[Event] = (),
    **fields: dict[str, Any],
) -> Call[list[Sent]]:
    """End a job with `result`, `error` or `selection`; returns the jobs that waited only for it.

    The job's last `events` are written just before. Raises `StaleAttempt`, except for a
    repeated call of the attempt that ended the job.
    """
    args = {
        "id": job.id,
        "attempt": job.attempt,
        "state": state,
        "events": [[kind, dump(data)] for _, _, kind, data in events],
        "fields": {name: pack(dump(value)) if name == "result" else dump(value) for name, value in fields.items()},
    }
    return Call("finish", args, lambda reply: all_to_send(reply["released"]), stale(job))


def release_unfinished(job: Job, queue: str = "") -> Call[Sent]:
    """Return an unfinished job to its queue, or to another queue of its stage; no lease counts as lost.

    Raises `StaleAttempt`, `CancelledMeanwhile`.
    """
    args = {"id": job.id, "attempt": job.attempt, "queue": queue or job.queue}
    return Call("release_unfinished", args, _waits(job), stale(job))


def wait_for(job: Job, job_ids: Sequence[str]) -> Call[Sent | None]:
    """Let a running job wait until each of `job_ids` has ended, in whatever state; it occupies no worker meanwhile.

    Returns the job to send where all of them have ended or do not exist. Raises `Conflict` `wait_cycle` where one of
    them waits for this job, and `StaleAttempt`, `CancelledMeanwhile`.
    """

    def read(reply: Reply) -> Sent | None:
        return None if reply.get("blocked") else _waits(job)(reply)

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "wait_cycle":
            return Conflict("wait_cycle", f"job {job.id} cannot wait for job {reply['id']}, which waits for it")
        return StaleAttempt(job.id)

    return Call("wait_for", {"id": job.id, "attempt": job.attempt, "jobs": list(job_ids)}, read, refused)


def cancel(job_id: str, tenant_id: str) -> Call[JobState]:
    """Cancel a waiting job at once, a running one within a step; returns its present state; raises `NotFound`."""
    args = {"id": job_id, "tenant_id": tenant_id}
    return Call("cancel", args, lambda reply: JobState(reply["state"]), lambda _: gone(job_id))


def replay(job_id: str, tenant_id: str) -> Call[Sent]:
    """Restart a dead letter; raises `NotFound` where the job is not one."""
    return Call(
        "replay",
        {"id": job_id, "tenant_id": tenant_id},
        lambda reply: to_send(reply["send"]),
        lambda _: _not_dead(job_id),
    )


def drop(job_id: str, tenant_id: str) -> Call[None]:
    """Drop a dead letter: it is kept no longer than other jobs; raises `NotFound` where the job is not one."""
    return Call("drop", {"id": job_id, "tenant_id": tenant_id}, nothing, lambda _: _not_dead(job_id))


def _waits(job: Job) -> Callable[[Reply], Sent]:
    def read(reply: Reply) -> Sent:
        if reply.get("cancelled"):
            raise CancelledMeanwhile("cancelled", f"job {job.id} was cancelled while an attempt ran")
        return to_send(reply["send"])

    return read


def _not_dead(job_id: str) -> NotFound:
    return NotFound("not_a_dead_letter", f"job {job_id} is not among the dead letters")
