"""From the creation of a job to its end (`lua/lifecycle.lua`)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from shared.contracts.dialogue import Kept
from shared.contracts.jobs import MAX_BEFORE, MAX_DEPENDENTS, Job, JobKind, JobState, NewJob, Stage
from shared.contracts.packing import pack
from shared.contracts.selection import is_disputed
from shared.contracts.shares import UNLIMITED, Shares
from shared.errors import Conflict, Invalid, NotFound, SignalboxError, TooMany
from shared.ledger.calls.base import (
    Call,
    CancelledMeanwhile,
    Event,
    Reply,
    Sent,
    all_to_send,
    dump,
    gone,
    never,
    nothing,
    stale,
    to_send,
)
from shared.ledger.calls.retention import NO_BUDGET, TenantBudget
from shared.ledger.calls.traffic import counted


class Created(NamedTuple):
    """Whether the job existed before, and the job to send (None while it waits for other jobs)."""

    existing: bool
    send: Sent | None


def create(
    job: NewJob, ttl_seconds: int, *, max_waiting: Shares = UNLIMITED, budget: TenantBudget = NO_BUDGET
) -> Call[Created]:
    """Create a job; if its id exists, nothing is written, and a different body is refused.

    Its `kept_label` is noted as what its conversation was last answered with.

    Raises `Conflict` `release_moved` where `job.release` is no longer the current release (or the job's
    `current_release` is not), `NotFound` where it was deleted, and `TooMany` where
    `max_waiting` jobs wait, where its tenant or line of keys has its share of them in jobs that have not ended, or
    where the tenant's jobs would take more bytes than its `budget`; for its `after` also `Invalid`, and `Conflict`
    `too_many_before`, `too_many_dependents`.
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
        if reply["refused"] in ("release_moved", "release_gone"):
            return _moved(job, reply["refused"])
        if reply["refused"] == "overloaded":
            return _overloaded(max_waiting, reply["by"])
        if reply["refused"] == "too_many_before":
            return too_many_before(job.id)
        if reply["refused"] == "too_many_dependents":
            return Conflict(
                "too_many_dependents",
                f"{MAX_DEPENDENTS} jobs wait for job {reply['id']} already; submit this one when that one has ended",
            )
        if reply["refused"] == "over_budget":
            return budget.exceeded(reply)
        return Invalid(
            reply["refused"],
            f"`after` names job {reply['id']}, which is unknown or did not succeed: submit that one first",
        )

    body = pack(dump(job.body))
    args = {
        **job.model_dump(mode="json", exclude={"body", "deadline_seconds"}),
        "body": body,
        "bytes": job.kept_bytes(body),
        "trace": dump(job.trace) if job.trace else "",
        "trains": dump(job.trains) if job.trains else "",
        "priority": job.priority,
        "tokens": job.new_tokens,
        "deadline": job.deadline_seconds,
        "fingerprint": job.fingerprint,
        "ttl": ttl_seconds,
        "max_waiting": max_waiting,
        "facts": facts_of(
            label=job.label,
            line=job.key_line,
            user=job.body.get("user"),
            conversation=job.conversation,
            training=job.kind == JobKind.TRAIN,
        ),
        **_noted(job, Kept(job.kept_label, 1.0) if job.kept_label else None),
        **budget.args,
    }
    return Call("create", args, read, refused)


def _moved(job: NewJob, why: str) -> SignalboxError:
    if why == "release_gone":
        return NotFound("release_not_found", f"release {job.release} was deleted meanwhile; take another")
    return Conflict("release_moved", "the current release changed while the job was accepted; try again")


def _overloaded(limits: Shares, by: str) -> TooMany:
    if by == "all":
        return TooMany("too_many_waiting", f"{limits.total} jobs wait already; try again later, or add workers")
    count, whose = (limits.tenant, "this tenant") if by == "tenant" else (limits.key, "this API key")
    return TooMany("too_many_waiting", f"{count} jobs of {whose} have not ended, which is its share; try again later")


def route(
    job: Job,
    *,
    queue: str,
    label: str,
    selection: dict[str, Any],
    events: Iterable[Event] = (),
    kept: Kept | None = None,
) -> Call[Sent]:
    """Move a selected job to the queue of its group; raises `StaleAttempt`, `CancelledMeanwhile`.

    The job's last `events` are written just before. `kept` is noted as what its conversation was last answered with.
    """
    args = {
        "id": job.id,
        "attempt": job.attempt,
        "stage": Stage.GENERATE,
        "queue": queue,
        "label": label,
        "selection": dump(selection),
        "facts": facts_of(**_found(selection)),
        "seen": counted(selection),
        "events": [[kind, dump(data)] for _, _, kind, data in events],
        **_noted(job, kept),
    }
    return Call("route", args, waits(job), stale(job))


def _noted(job: NewJob | Job, kept: Kept | None) -> dict[str, str]:
    """Return what is noted of the job's conversation; without a name of it, or without a label, nothing is."""
    if kept is None:
        return {"conversation": "", "kept": ""}
    return {"conversation": job.conversation, "kept": f"{kept.probability:.6f}|{kept.label}"}


def kept_label(job: Job) -> Call[Kept | None]:
    """Return what the job's conversation was last answered with; None where the ledger knows nothing of it."""

    def read(reply: Reply) -> Kept | None:
        if not reply.get("kept"):  # Lua's nil is written as false
            return None
        _, probability, label = str(reply["kept"]).split("|", 2)
        return Kept(label, float(probability))

    return Call("kept_label", {"tenant_id": job.tenant_id, "conversation": job.conversation}, read, never)


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
        "facts": facts_of(**_found(fields.get("selection", {}))),
        "seen": counted(fields.get("selection", {})),
        "used": _used(fields.get("result", {})),
        "label": fields.get("selection", {}).get("label") or "",
    }
    return Call("finish", args, lambda reply: all_to_send(reply["released"]), stale(job))


def facts_of(
    *,
    label: str | None = "",
    line: str = "",
    user: str | None = None,
    conversation: str = "",
    training: bool = False,
    rejected: bool = False,
    disputed: bool = False,
    probability: float | None = None,
) -> list[str]:
    """Return the facts by which a job can be listed: each names an index (`LedgerKey.FOUND`)."""
    tenth = None if probability is None else min(9, int(probability * 10))
    given = {"label:": label, "line:": line, "user:": user, "talk:": conversation, "tenth:": tenth}
    facts = [f"{name}{value}" for name, value in given.items() if value not in ("", None)]
    return facts + ["training"] * training + ["rejected"] * rejected + ["disputed"] * disputed


def _found(selection: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: selection[name] for name in ("label", "rejected", "probability") if name in selection}
    return found | {"disputed": is_disputed(ambiguous=bool(selection.get("ambiguous")), by=selection.get("by"))}


def _used(result: Mapping[str, Any]) -> list[int]:
    """The tokens of a result's prompt and answers; workers of the version before write them flat."""
    usage = result.get("usage") or {}
    prompt = usage.get("prompt_tokens", result.get("prompt_tokens", 0))
    return [prompt, usage.get("completion_tokens", result.get("generated_tokens", 0))]


def release_unfinished(job: Job, queue: str = "") -> Call[Sent]:
    """Return an unfinished job to its queue, or to another queue of its stage; no lease counts as lost.

    Raises `StaleAttempt`, `CancelledMeanwhile`.
    """
    args = {"id": job.id, "attempt": job.attempt, "queue": queue or job.queue}
    return Call("release_unfinished", args, waits(job), stale(job))


def give_back(job: Job, pause_seconds: float) -> Call[None]:
    """Return an unfinished job to its queue, where it is taken after the pause; no lease counts as lost.

    The reconciler sends the message. Raises `StaleAttempt`, `CancelledMeanwhile`.
    """

    def read(reply: Reply) -> None:
        if reply.get("cancelled"):
            raise CancelledMeanwhile("cancelled", f"job {job.id} was cancelled while an attempt ran")

    args = {"id": job.id, "attempt": job.attempt, "queue": job.queue, "pause_ms": pause_seconds * 1000}
    return Call("release_unfinished", args, read, stale(job))


def cancel(job_id: str, tenant_id: str) -> Call[JobState]:
    """Cancel a waiting job at once, a running one within a step; returns its present state; raises `NotFound`."""
    args = {"id": job_id, "tenant_id": tenant_id}
    return Call("cancel", args, lambda reply: JobState(reply["state"]), lambda _: gone(job_id))


def replay(job_id: str, tenant_id: str) -> Call[Sent]:
    """Restart a dead letter; raises `NotFound` where it is none, `Conflict` while jobs that waited for it are ended."""
    return Call(
        "replay",
        {"id": job_id, "tenant_id": tenant_id},
        lambda reply: to_send(reply["send"]),
        lambda reply: _settling(job_id) if reply["refused"] == "settling" else _not_dead(job_id),
    )


def drop(job_id: str, tenant_id: str) -> Call[None]:
    """Drop a dead letter: it is kept no longer than other jobs; raises `NotFound` where the job is not one."""
    return Call("drop", {"id": job_id, "tenant_id": tenant_id}, nothing, lambda _: _not_dead(job_id))


def too_many_before(job_id: str) -> Conflict:
    """Return the error for a job that would wait for too many jobs."""
    return Conflict(
        "too_many_before",
        f"more than {MAX_BEFORE} jobs would have to end before job {job_id}; submit it when some of them have",
    )


def waits(job: Job) -> Callable[[Reply], Sent]:
    """Return the reader of the reply about a job that waits again: its message, or `CancelledMeanwhile`."""

    def read(reply: Reply) -> Sent:
        if reply.get("cancelled"):
            raise CancelledMeanwhile("cancelled", f"job {job.id} was cancelled while an attempt ran")
        return to_send(reply["send"])

    return read


def _not_dead(job_id: str) -> NotFound:
    return NotFound(
        "not_a_dead_letter", f"job {job_id} is not among the dead letters; list them with `signalbox jobs dead`"
    )


def _settling(job_id: str) -> Conflict:
    return Conflict("job_settling", f"the jobs that waited for job {job_id} are being ended; try again in a moment")
