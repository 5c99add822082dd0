"""What every operation of the ledger is made of: what to send, and how to read the answer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from shared.contracts.jobs import Job, Stage
from shared.errors import Cancelled, Conflict, NotFound, SignalboxError, StaleAttempt

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


class NotAcquired(Conflict):
    """The message is not work for this worker: the job ended, moved on, or is held by a live lease."""


class MustRunAlone(NotAcquired):
    """It is this job's last try after lost leases: it may be what ended its workers, so nothing may run beside it."""


class CancelledMeanwhile(Cancelled):
    """Instead of waiting again the job ended, because it was cancelled: there is nothing left to write."""


def to_send(row: Sequence[str]) -> Sent:
    """Read the script's row about a job that waits for a worker."""
    job_id, queue, stage, sent_ms = row
    return Sent(job_id, queue, Stage(stage), float(sent_ms))


def all_to_send(rows: Any) -> list[Sent]:
    """Read several such rows."""
    return [to_send(row) for row in rows or []]  # Lua writes an empty list as {}


def dump(value: Any) -> str:
    """JSON as the ledger keeps it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def nothing(_: Reply) -> None:
    """Read a reply that holds nothing."""
    return


def never(reply: Reply) -> SignalboxError:
    """Make the error of an operation that is never refused, and was."""
    return SignalboxError("ledger_refused", f"the ledger refused an operation that it never refuses: {reply}")


def stale(job: Job) -> Callable[[Reply], SignalboxError]:
    """Make the error of an attempt that does not own its job any more."""
    return lambda _: StaleAttempt(job.id)


def gone(job_id: str) -> NotFound:
    """Make the error for a job that is not there, or is another tenant's."""
    return NotFound("job_not_found", f"no job {job_id}: it never was, has expired, or belongs to another tenant")
