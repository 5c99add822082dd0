"""The type of the ledger's operations: what to send, and how to read the reply."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from shared.contracts.jobs import Job
from shared.errors import Cancelled, Conflict, NotFound, SignalboxError, StaleAttempt

T = TypeVar("T")
Reply = dict[str, Any]
Standing = Literal["held", "cancel", "stale"]
Event = tuple[str, int, str, dict[str, Any]]
"""Job id, attempt, type, data."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One operation: its name in the script, its arguments, and the functions that read its reply."""

    op: str
    args: dict[str, Any]
    read: Callable[[Reply], T]
    refused: Callable[[Reply], SignalboxError]


class Sent(NamedTuple):
    """A message to send: the job that it is sent for, and the queue whose workers it wakes."""

    job_id: str
    queue: str


class NotAcquired(Conflict):
    """There is no work: no job waits, or the job has ended, has left the queue, or is held by a live lease."""


class MustRunAlone(NotAcquired):
    """The job is on its last try after lost leases: it may have crashed its workers, so it must run alone."""

    def __init__(self, job_id: str) -> None:
        super().__init__("job_last_try", f"job {job_id} has lost its workers before and must run alone")
        self.job_id = job_id


class CancelledMeanwhile(Cancelled):
    """The job was cancelled and has ended instead of waiting again: this attempt has nothing left to write."""


def to_send(row: Sequence[str]) -> Sent:
    """Read the script's row for a job that waits for a worker."""
    return Sent(*row)


def all_to_send(rows: Any) -> list[Sent]:
    """Read several such rows."""
    return [to_send(row) for row in rows or []]  # Lua writes an empty list as {}


def dump(value: Any) -> str:
    """Return JSON in the form that the ledger stores."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def nothing(_: Reply) -> None:
    """Read an empty reply."""
    return


def never(reply: Reply) -> SignalboxError:
    """Return the error for the refusal of an operation that the script never refuses."""
    return SignalboxError(
        "ledger_refused", f"the ledger refused an operation that it never refuses, report it: {reply}"
    )


def stale(job: Job) -> Callable[[Reply], SignalboxError]:
    """Return a function that makes the error of an attempt that no longer owns its job."""
    return lambda _: StaleAttempt(job.id)


def gone(job_id: str) -> NotFound:
    """Return the error for a job that does not exist or belongs to another tenant."""
    return NotFound("job_not_found", f"no job {job_id}: it never was, has expired, or belongs to another tenant")
