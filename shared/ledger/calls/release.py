"""The operation that moves the release pointer (`lua/release.lua`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts.adapter_needs import AdapterNeed, above_server
from shared.contracts.base_models import other_base
from shared.contracts.jobs import Job
from shared.errors import Conflict, NotFound, SignalboxError, StaleAttempt
from shared.ledger.calls.base import Call, Reply, nothing
from shared.names import start_one


def move_release(
    tenant_id: str,
    release: str,
    *,
    expected: str,
    queues: Sequence[str],
    bases: Mapping[str, Sequence[str]] | None = None,
    needs: Mapping[str, AdapterNeed] | None = None,
    force: bool = False,
    is_back: bool = False,
    by: str,
    key: str = "",
    attempt: Job | None = None,
) -> Call[None]:
    """Move the pointer from `expected` to `release` if each of `queues` has live consumers that serve its `bases`.

    The log notes `by` whom, a key or a job, and that job's API `key`; webhooks call it a rollback where it `is_back`.
    `needs` is what each queue's adapters ask of its consumers. With `force`, queues need no consumer.
    Raises `Conflict`, `NotFound`, and `StaleAttempt` where the job's `attempt` no longer owns the job. A repeated call
    of the same caller is no conflict.
    """

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "stale":
            return StaleAttempt(args["job"])
        if reply["refused"] == "gone":
            return NotFound("release_not_found", f"release {release} was deleted meanwhile; take another")
        if reply["refused"] == "no_consumer":
            return Conflict(
                "group_without_worker",
                f"no live worker serves {reply['queue']}; {start_one(reply['queue'])}, or promote with force to let "
                "its jobs wait",
            )
        if reply["refused"] == "other_base":
            return Conflict(
                "base_model_mismatch", other_base(release, reply["base"], {reply["queue"]: reply["served"]})
            )
        if reply["refused"] == "adapter_above":
            need = (needs or {})[reply["queue"]]
            return Conflict("adapter_above_server", above_server(release, reply["queue"], need, int(reply["max_rank"])))
        return Conflict(
            "stale_parent",
            f"the current release is {reply['current'] or 'none'}, not {expected or 'none'}; build the candidate anew: "
            f"`signalbox releases rebuild {release}`",
        )

    args: dict[str, Any] = {
        "tenant_id": tenant_id,
        "release": release,
        "expected": expected,
        "queues": list(queues),
        "bases": {queue: list(pins) for queue, pins in (bases or {}).items()},
        "needs": {queue: need._asdict() for queue, need in (needs or {}).items()},
        "force": force,
        "is_back": is_back,
        "by": by,
        "key": key,
        "job": attempt.id if attempt else "",
        "attempt": attempt.attempt if attempt else 0,
    }
    return Call("move_release", args, nothing, refused)


def remove_release(tenant_id: str, release: str) -> Call[None]:
    """Remove a release's record; raises `Conflict` where it is the current one, or being rolled out."""

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "rolled_out":
            detail = f"release {release} is being rolled out: abort rollout {reply['rollout']} before it is deleted"
            return Conflict("release_in_use", detail)
        return Conflict(
            "release_in_use", f"release {release} is live: promote another, or roll back, before it is deleted"
        )

    return Call("remove_release", {"tenant_id": tenant_id, "release": release}, nothing, refused)
