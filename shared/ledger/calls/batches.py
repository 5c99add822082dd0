"""Batches and the jobs of their lines (`lua/batches.lua`)."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.contracts.batches import Batch
from shared.contracts.jobs import Job
from shared.errors import Conflict, Invalid, NotFound, SignalboxError, TooMany
from shared.ledger.calls.base import Call, Reply, never, nothing

MAX_OPEN = 100
"""Batches of one tenant that have not ended."""
_CURSOR = "cursor_unknown"


class Known(NamedTuple):
    """A batch, and when somebody asked that it be cancelled (0 where nobody did), in seconds since 1970."""

    batch: Batch
    cancelling_at: float


class Taken(NamedTuple):
    """A batch under a lease: `fence` is the lease's number, under which its writes are taken."""

    batch: Batch
    cancelling_at: float
    fence: int


class Looked(NamedTuple):
    """The state of each job that was looked at (empty for one that is not there), and ended ones, whole."""

    states: list[str]
    ended: list[Job]


class StaleBatch(Conflict):
    """Another worker has this batch now: write nothing."""


class CursorUnknown(Invalid):
    """No batch has the id after which a page was asked for."""

    param = "after"


def create_batch(batch: Batch) -> Call[bool]:
    """Create a batch; returns whether an equal one was there. Raises `Invalid` for another under its id, `TooMany`."""

    def read(reply: Reply) -> bool:
        if reply["existing"] and not reply["same"]:
            raise Invalid(
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request; send the same body, or take a new key",
            )
        return bool(reply["existing"])

    def refused(_: Reply) -> SignalboxError:
        detail = f"{MAX_OPEN} batches of this tenant have not ended: wait for one, or cancel it"
        return TooMany("too_many_batches", detail, retry_after_seconds=60)

    args = {
        "id": batch.id,
        "tenant_id": batch.tenant_id,
        "line": batch.key_line,
        "record": batch.model_dump_json(),
        "fingerprint": batch.fingerprint,
        "most_open": MAX_OPEN,
    }
    return Call("batch_create", args, read, refused)


def get_batch(batch_id: str, tenant_id: str, line: str = "") -> Call[Known]:
    """Read a batch of this tenant and line of keys (of any, where it is empty); raises `NotFound`."""
    args = {"id": batch_id, "tenant_id": tenant_id, "line": line}
    return Call("batch_get", args, _known, lambda _: _gone(batch_id))


def list_batches(tenant_id: str, line: str = "", *, after: str = "", limit: int = 20) -> Call[list[Known]]:
    """List batches, newest first; one more than `limit` where there are more. Raises `CursorUnknown`."""

    def refused(_: Reply) -> SignalboxError:
        return CursorUnknown(_CURSOR, f"no batch has the id {after!r}: list from the beginning")

    args = {"tenant_id": tenant_id, "line": line, "after": after, "limit": limit}
    return Call("batch_list", args, lambda reply: [_known(one) for one in reply["batches"] or []], refused)


def cancel_batch(batch_id: str, tenant_id: str, line: str = "") -> Call[Known]:
    """Ask that a batch be cancelled; one that has ended stays as it is. Raises `NotFound`."""
    args = {"id": batch_id, "tenant_id": tenant_id, "line": line}
    return Call("batch_cancel", args, _known, lambda _: _gone(batch_id))


def forget_batch(batch_id: str, tenant_id: str) -> Call[None]:
    """Forget a batch that has ended; one that has not stays."""
    return Call("forget_batch", {"id": batch_id, "tenant_id": tenant_id}, nothing, never)


def take_batch(lease_seconds: float) -> Call[Taken | None]:
    """Lease a batch that nobody holds; None where there is none."""

    def read(reply: Reply) -> Taken | None:
        taken = reply.get("taken")
        return Taken(*_known(taken), taken["fence"]) if taken else None

    return Call("batch_take", {"lease_ms": lease_seconds * 1000}, read, never)


def write_batch(batch_id: str, fence: int, record: Batch | None, lease_seconds: float) -> Call[float]:
    """Renew the lease and write a record, where one is given; returns when somebody asked to cancel it (0: nobody did).

    A lease of 0 seconds gives the batch to the next worker. Raises `StaleBatch` where another lease was given.
    """

    def refused(_: Reply) -> SignalboxError:
        return StaleBatch("batch_stale", f"another worker has the batch {batch_id} now")

    args = {
        "id": batch_id,
        "fence": fence,
        "record": record.model_dump_json() if record else "",
        "ended": bool(record and record.state.is_final),
        "event": f"batch.{record.state}" if record else "",
        "lease_ms": lease_seconds * 1000,
    }
    return Call("batch_write", args, _cancelling, refused)


def look(job_ids: Sequence[str], most: int) -> Call[Looked]:
    """Look at jobs: the state of each, and of those that have ended the first `most`, whole."""

    def read(reply: Reply) -> Looked:
        return Looked(list(reply["states"] or []), [Job.from_hash(one) for one in reply["ended"] or []])

    return Call("look", {"ids": list(job_ids), "most": most}, read, never)


def forget_jobs(tenant_id: str, job_ids: Sequence[str]) -> Call[None]:
    """Forget ended jobs whose answers stand elsewhere."""
    return Call("forget_jobs", {"tenant_id": tenant_id, "ids": list(job_ids)}, nothing, never)


def _known(reply: Reply) -> Known:
    return Known(Batch.model_validate_json(reply["record"]), _cancelling(reply))


def _cancelling(reply: Reply) -> float:
    return float(reply["cancelling_ms"] or 0) / 1000


def _gone(batch_id: str) -> NotFound:
    return NotFound(
        "batch_not_found",
        f"no batch {batch_id[:64]!r}: it never was, was long ago, or is another key's; list those there are",
    )
