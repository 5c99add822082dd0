"""Events of attempts, and feedback on finished jobs (`lua/events.lua`)."""

from collections.abc import Iterable
from typing import Any

from shared.contracts.packing import pack
from shared.contracts.rows import NO_SOURCE, RowSource
from shared.errors import Conflict, NotFound, SignalboxError
from shared.ledger.calls.base import Call, Event, Reply, Standing, dump, gone, never, nothing
from shared.ledger.calls.retention import NO_BUDGET, TenantBudget


def append(events: Iterable[Event], *, writer: str = "", batch: int = 0) -> Call[list[Standing]]:
    """Append events (job id, attempt, type, data) to their jobs' streams; events of a stale attempt are dropped.

    A named `writer` numbers its batches from 1; a batch that it sends twice is written once.
    """
    items = [[job_id, attempt, kind, dump(data)] for job_id, attempt, kind, data in events]
    return Call(
        "append",
        {"items": items, "writer": writer, "batch": batch},
        lambda reply: list(reply["standing"] or []),
        never,
    )


def feedback(
    job_id: str,
    tenant_id: str,
    value: dict[str, Any],
    row: dict[str, Any] | None,
    *,
    before: int,
    after: int | None = None,
    source: RowSource = NO_SOURCE,
    conflict: bool = False,
    budget: TenantBudget = NO_BUDGET,
) -> Call[None]:
    """Store the feedback on a finished job, and the data-set row made from it with its source; None takes the row back.

    `before` counts the feedbacks that the job has, `after` those in the value, by default one more, and 0 where nothing
    is left of it; with `conflict` the job is listed among those about whose label keys differ. Raises `Conflict`
    `feedback_moved` where it has not so many, and `TooMany` where the tenant's jobs would take more bytes than its
    `budget`.
    """

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "unfinished":
            return Conflict("job_unfinished", f"job {job_id} has not ended yet; give feedback afterwards")
        if reply["refused"] == "moved":
            return Conflict(
                "feedback_moved",
                f"somebody else gave feedback on job {job_id} at the same time: read it, then give yours again",
            )
        if reply["refused"] == "over_budget":
            return budget.exceeded(reply)
        return gone(job_id)

    args = {
        "id": job_id,
        "tenant_id": tenant_id,
        "feedback": "" if after == 0 else pack(dump(value)),
        "row": dump(row) if row else "",
        "source": source.model_dump_json(exclude_defaults=True),
        "before": before,
        "after": before + 1 if after is None else after,
        "conflict": conflict,
        "judged": {name: value[name] for name in ("label", "rating") if value.get(name) is not None},
        **budget.args,
    }
    return Call("feedback", args, nothing, refused)


def forget_feedback(job_id: str, tenant_id: str) -> Call[None]:
    """Forget the feedback on a job, which may have expired, and what of it trains; raises `NotFound` without any."""

    def refused(_: Reply) -> SignalboxError:
        return NotFound("feedback_not_found", f"there is no feedback on job {job_id}: check the id")

    return Call("forget_feedback", {"id": job_id, "tenant_id": tenant_id}, nothing, refused)
