"""The operation that moves the release pointer (`lua/release.lua`)."""

from collections.abc import Sequence
from typing import Any

from shared.contracts.jobs import Job
from shared.errors import Conflict, SignalboxError, StaleAttempt
from shared.ledger.calls.base import Call, Reply, nothing
from shared.names import start_one


def move_release(
    tenant_id: str,
    release: str,
    *,
    expected: str,
    queues: Sequence[str],
    force: bool = False,
    by: str,
    key: str = "",
    attempt: Job | None = None,
) -> Call[None]:
    """Move the pointer from `expected` to `release` if each of `queues` has a live consumer; raises `Conflict`.

    The log notes `by` whom, a key or a job, and that job's API `key`. With `force`, queues need no consumer. Raises
    `StaleAttempt` where the job's `attempt` no longer owns the job. A repeated call of the same caller is no conflict.
    """

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "stale":
            return StaleAttempt(args["job"])
        if reply["refused"] == "no_consumer":
            return Conflict(
                "group_without_worker",
                f"no live worker serves {reply['queue']}; {start_one(reply['queue'])}, or promote with force to let "
                "its jobs wait",
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
        "key": key,
        "job": attempt.id if attempt else "",
        "attempt": attempt.attempt if attempt else 0,
    }
    return Call("move_release", args, nothing, refused)
