"""The operations of the ledger as values: what to send and how to read the answer; for both clients."""

import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from shared.contracts.jobs import Job, JobKind, JobState, NewJob, Stage
from shared.errors import Cancelled, Conflict, Invalid, NotFound, SignalboxError, StaleAttempt, TooMany

T = TypeVar("T")
Reply = dict[str, Any]
Standing = Literal["held", "cancel", "stale"]
Event = tuple[str, int, str, dict[str, Any]]
"""Job id, attempt, type, data."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One operation: the script's branch, its arguments, and how its reply becomes a value."""

    op: str
    args: dict[str, Any]
    read: Callable[[Reply], T]
    refused: Callable[[Reply], SignalboxError]


class Sent(NamedTuple):
    """A job that has to be sent to its queue, and the time the ledger noted for that."""

    job_id: str
    queue: str
    stage: Stage
    sent_ms: float


class Created(NamedTuple):
    """Whether the job was there before, and what to send (nothing while it waits for other jobs)."""

    existing: bool
    send: Sent | None


class Gauge(NamedTuple):
    """One queue: jobs that wait, jobs under a lease, live consumers."""

    queue: str
    waiting: int
    running: int
    consumers: int


class Gauges(NamedTuple):
    """All queues, the number of jobs by state, and of those that the ledger ended itself, by the error's code."""

    queues: list[Gauge]
    states: dict[str, int]
    given_up: dict[str, int]


class NotAcquired(Conflict):
    """The message is not work for this worker: the job ended, moved on, or is held by a live lease."""


class MustRunAlone(NotAcquired):
    """It is this job's last try after lost leases: it may be what ended its workers, so nothing may run beside it."""


class CancelledMeanwhile(Cancelled):
    """Instead of waiting again the job ended, because it was cancelled: there is nothing left to write."""


def _waits(job: Job) -> Callable[[Reply], Sent]:
    def read(reply: Reply) -> Sent:
        if reply.get("cancelled"):
            raise CancelledMeanwhile("cancelled", f"job {job.id} was cancelled while an attempt ran")
        return _to_send(reply["send"])

    return read


def _gone(job_id: str) -> NotFound:
    return NotFound("job_not_found", f"no job {job_id}: it never was, has expired, or belongs to another tenant")


def _to_send(row: Sequence[str]) -> Sent:
    job_id, queue, stage, sent_ms = row
    return Sent(job_id, queue, Stage(stage), float(sent_ms))


def _all_to_send(rows: Any) -> list[Sent]:
    return [_to_send(row) for row in rows or []]  # Lua writes an empty list as {}


def _not_dead(job_id: str) -> NotFound:
    return NotFound("not_a_dead_letter", f"job {job_id} is not among the dead letters")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def create(job: NewJob, ttl_seconds: int, *, max_waiting: int = 0) -> Call[Created]:
    """Enter a job; under an id that exists nothing is written, and another body is refused.

    Raises `Conflict` `release_moved` where the pointer is not at `job.release` any more, and `TooMany` where
    `max_waiting` jobs wait (0: no limit).
    """

    def read(reply: Reply) -> Created:
        if not reply["existing"]:
            return Created(False, _to_send(reply["send"]) if "send" in reply else None)
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
        return Invalid(reply["refused"], f"`after` names job {reply['id']}, which is unknown or did not succeed")

    args = {
        **job.model_dump(mode="json", exclude={"body", "deadline_seconds"}),
        "body": _dump(job.body),
        "trace": _dump(job.trace) if job.trace else "",
        "deadline": job.deadline_seconds,
        "fingerprint": job.fingerprint,
        "ttl": ttl_seconds,
        "max_waiting": max_waiting,
    }
    return Call("create", args, read, refused)


def acquire(job_id: str, queue: str, owner: str, lease_seconds: float, *, beside_others: bool = False) -> Call[Job]:
    """Start an attempt; raises `NotAcquired` where there is nothing to do. Run again it answers the same attempt.

    For a process that runs other jobs beside it, raises `MustRunAlone` where it is the last one before the job is
    given up.
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
    """Keep `held` leases (job id, attempt) and the owner's presence alive; answers how each lease stands."""
    args = {
        "owner": owner,
        "queues": list(queues),
        "items": [list(item) for item in held],
        "info": _dump(info),
        "lease_ms": lease_seconds * 1000,
    }
    return Call("heartbeat", args, lambda reply: list(reply["standing"] or []), _never)


def leave_queues(owner: str, queues: Sequence[str]) -> Call[None]:
    """Say that this process serves its queues no more."""
    return Call("leave_queues", {"owner": owner, "queues": list(queues)}, _nothing, _never)


def append(events: Iterable[Event], *, writer: str = "", batch: int = 0) -> Call[list[Standing]]:
    """Add events (job id, attempt, type, data) to their jobs' streams; a stale attempt's are dropped.

    A named `writer` that counts its batches up from 1 may run one again: it is written once.
    """
    items = [[job_id, attempt, kind, _dump(data)] for job_id, attempt, kind, data in events]
    return Call(
        "append",
        {"items": items, "writer": writer, "batch": batch},
        lambda reply: list(reply["standing"] or []),
        _never,
    )


def route(job: Job, *, queue: str, label: str, selection: dict[str, Any], events: Iterable[Event] = ()) -> Call[Sent]:
    """Hand a selected job to the queue of its group; raises `StaleAttempt`, `CancelledMeanwhile`.

    Its last `events` are written just before.
    """
    args = {
        "id": job.id,
        "attempt": job.attempt,
        "stage": Stage.GENERATE,
        "queue": queue,
        "label": label,
        "selection": _dump(selection),
        "events": [[kind, _dump(data)] for _, _, kind, data in events],
    }
    return Call("route", args, _waits(job), _stale(job))


def finish(
    job: Job,
    state: JobState,
    events: Iterable[Event] = (),
    **fields: dict[str, Any],
) -> Call[list[Sent]]:
    """End a job with `result`, `error` or `selection`; answers the jobs that waited for it.

    Its last `events` are written just before. Raises `StaleAttempt`; run again by
    the attempt that ended the job it does not.
    """
    args = {
        "id": job.id,
        "attempt": job.attempt,
        "state": state,
        "events": [[kind, _dump(data)] for _, _, kind, data in events],
        "fields": {name: _dump(value) for name, value in fields.items()},
    }
    return Call("finish", args, lambda reply: _all_to_send(reply["released"]), _stale(job))


def release_unfinished(job: Job) -> Call[Sent]:
    """Return a job unfinished without counting a lost lease; raises `StaleAttempt`, `CancelledMeanwhile`."""
    return Call("release_unfinished", {"id": job.id, "attempt": job.attempt}, _waits(job), _stale(job))


def wait_for(job: Job, job_ids: Sequence[str]) -> Call[Sent | None]:
    """Let a running job wait until each of these has ended, however it ends; it holds no worker meanwhile.

    Answers what to send where all have ended already, or are not there (any more). Raises `Conflict` `wait_cycle` where
    one of them waits for this job, and `StaleAttempt`, `CancelledMeanwhile`.
    """

    def read(reply: Reply) -> Sent | None:
        return None if reply.get("blocked") else _waits(job)(reply)

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "wait_cycle":
            return Conflict("wait_cycle", f"job {job.id} cannot wait for job {reply['id']}, which waits for it")
        return StaleAttempt(job.id)

    return Call("wait_for", {"id": job.id, "attempt": job.attempt, "jobs": list(job_ids)}, read, refused)


def cancel(job_id: str, tenant_id: str) -> Call[JobState]:
    """Cancel a waiting job at once, a running one within a step; answers the state now; raises `NotFound`."""
    args = {"id": job_id, "tenant_id": tenant_id}
    return Call("cancel", args, lambda reply: JobState(reply["state"]), lambda _: _gone(job_id))


def get(job_id: str, tenant_id: str = "") -> Call[Job]:
    """Read a job of this tenant (of any, where empty); raises `NotFound`."""
    args = {"id": job_id, "tenant_id": tenant_id}
    return Call("get", args, lambda reply: Job.from_hash(reply["job"]), lambda _: _gone(job_id))


class Page(NamedTuple):
    """Jobs, newest first, and the cursor of the next page (empty at the end); a filtered page may be short."""

    jobs: list[Job]
    next: str


def list_jobs(
    tenant_id: str,
    *,
    limit: int = 50,
    before: str = "",
    state: JobState | None = None,
    kind: JobKind | None = None,
    dead: bool = False,
) -> Call[Page]:
    """Jobs of a tenant, newest first; `dead` lists the dead letters."""
    args = {
        "tenant_id": tenant_id,
        "limit": limit,
        "before": before or "+inf",
        "state": state or "",
        "kind": kind or "",
        "dead": dead,
    }
    return Call("list", args, lambda r: Page([Job.from_hash(j) for j in r["jobs"] or []], r["next"]), _never)


def expire(queue: str, limit: int = 1000) -> Call[list[Sent]]:
    """Take back leases that ran out and end what waited past its deadline; answers what to send again.

    The ledger stands still for 0.1 ms a job meanwhile: run it again until the answer is empty.
    """
    return Call("expire", {"queue": queue, "limit": limit}, lambda reply: _all_to_send(reply["again"]), _never)


def waiting_before(queue: str, before_ms: str, grace_seconds: float, limit: int = 10_000) -> Call[list[str]]:
    """Jobs of a queue last sent before `before_ms`, or (where empty) longer ago than the grace time."""
    args = {"queue": queue, "before": before_ms, "grace_ms": grace_seconds * 1000, "limit": limit}
    return Call("waiting_before", args, lambda reply: list(reply["ids"] or []), _never)


def mark_sent(queue: str, job_ids: Sequence[str]) -> Call[list[Sent]]:
    """Note that these are sent again now; those that moved on meanwhile are left out of the answer."""
    return Call("mark_sent", {"queue": queue, "ids": list(job_ids)}, lambda reply: _all_to_send(reply["again"]), _never)


def replay(job_id: str, tenant_id: str) -> Call[Sent]:
    """Start a dead letter anew; raises `NotFound` where it is none."""
    return Call(
        "replay",
        {"id": job_id, "tenant_id": tenant_id},
        lambda reply: _to_send(reply["send"]),
        lambda _: _not_dead(job_id),
    )


def drop(job_id: str, tenant_id: str) -> Call[None]:
    """Give a dead letter up: it is kept no longer than other jobs; raises `NotFound` where it is none."""
    return Call("drop", {"id": job_id, "tenant_id": tenant_id}, _nothing, lambda _: _not_dead(job_id))


def feedback(job_id: str, tenant_id: str, value: dict[str, Any], row: dict[str, Any]) -> Call[None]:
    """Store what a user says of a finished job, with the data-set row that it makes."""

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "unfinished":
            return Conflict("job_unfinished", f"job {job_id} has not ended yet; feedback is taken afterwards")
        return _gone(job_id)

    args = {"id": job_id, "tenant_id": tenant_id, "feedback": _dump(value), "row": _dump(row)}
    return Call("feedback", args, _nothing, refused)


def gauges() -> Call[Gauges]:
    """Depth, running and live consumers of every queue; jobs by state."""

    def read(reply: Reply) -> Gauges:
        queues = [Gauge(*row) for row in reply["queues"] or []]
        return Gauges(queues, dict(reply["states"]), dict(reply["given_up"]))

    return Call("gauges", {}, read, _never)


def move_release(
    tenant_id: str,
    release: str,
    *,
    expected: str,
    queues: Sequence[str],
    force: bool = False,
    by: str,
    attempt: Job | None = None,
) -> Call[None]:
    """Move the pointer from `expected` to `release`, each of `queues` having a live consumer; raises `Conflict`.

    By `force` they need none. A move made for a job fails as `StaleAttempt` where `attempt` does not own it any more.
    Run again by the same caller, the last move is no conflict.
    """

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "stale":
            return StaleAttempt(args["job"])
        if reply["refused"] == "no_consumer":
            return Conflict(
                "group_without_worker",
                f"no live worker serves {reply['queue']}; start one, or promote with force to let its jobs wait",
            )
        return Conflict(
            "stale_parent",
            f"the current release is {reply['current'] or 'none'}, not {expected or 'none'}; build the candidate anew",
        )

    args: dict[str, Any] = {
        "tenant_id": tenant_id,
        "release": release,
        "expected": expected,
        "queues": list(queues),
        "force": force,
        "by": by,
        "job": attempt.id if attempt else "",
        "attempt": attempt.attempt if attempt else 0,
    }
    return Call("move_release", args, _nothing, refused)


def _nothing(_: Reply) -> None:
    return None


def _never(reply: Reply) -> SignalboxError:
    return SignalboxError("ledger_refused", f"the ledger refused an operation that it never refuses: {reply}")


def _stale(job: Job) -> Callable[[Reply], SignalboxError]:
    return lambda _: StaleAttempt(job.id)
