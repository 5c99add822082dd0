"""Jobs that wait for other jobs (`lua/dependents.lua`)."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.contracts.jobs import Job
from shared.errors import Conflict, SignalboxError, StaleAttempt
from shared.ledger.calls.base import Call, Reply, Sent, all_to_send, never
from shared.ledger.calls.lifecycle import too_many_before, waits


class Settled(NamedTuple):
    """The jobs that wait for a worker now, and whether more calls are needed."""

    released: list[Sent]
    more: bool


def settle() -> Call[Settled]:
    """Go on with the jobs that waited for ended ones: let them wait for a worker, or end them.

    The call goes through a bounded number of them: repeat it until there are no more.
    """
    return Call("settle", {}, lambda reply: Settled(all_to_send(reply["released"]), reply["more"]), never)


def wait_for(job: Job, job_ids: Sequence[str]) -> Call[Sent | None]:
    """Let a running job wait until each of `job_ids` has ended, in whatever state; it occupies no worker meanwhile.

    Where that would be more than `MAX_BEFORE` jobs, it waits for the first of them. Returns the job to send where all
    of them have ended or do not exist. Raises `Conflict` `wait_cycle` where one of them waits for this job,
    `too_many_before` where already the first waits for too many, and `StaleAttempt`, `CancelledMeanwhile`.
    """

    def read(reply: Reply) -> Sent | None:
        return None if reply.get("blocked") else waits(job)(reply)

    def refused(reply: Reply) -> SignalboxError:
        if reply["refused"] == "wait_cycle":
            return Conflict(
                "wait_cycle",
                f"job {job.id} cannot wait for job {reply['id']}, which waits for it; leave one of them out of `after`",
            )
        return too_many_before(job.id) if reply["refused"] == "too_many_before" else StaleAttempt(job.id)

    return Call("wait_for", {"id": job.id, "attempt": job.attempt, "jobs": list(job_ids)}, read, refused)
