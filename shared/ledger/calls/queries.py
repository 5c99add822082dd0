"""Reads: one job, pages of jobs, and the depth of every queue (`lua/queries.lua`)."""

from typing import NamedTuple

from shared.contracts.jobs import Job, JobKind, JobState
from shared.ledger.calls.base import Call, Reply, gone, never
from shared.names import base_of_queue


class Gauge(NamedTuple):
    """The counts of one queue: waiting jobs, leased jobs, live consumers."""

    queue: str
    waiting: int
    running: int
    consumers: int


class Gauges(NamedTuple):
    """The counts of all queues, of jobs by state, and of jobs that the ledger ended itself, by error code."""

    queues: list[Gauge]
    states: dict[str, int]
    given_up: dict[str, int]

    @property
    def bases(self) -> dict[str, list[str]]:
        """The pins of the base models that live consumers serve, by queue; consumers of older versions state none."""
        served: dict[str, list[str]] = {}
        for queue, base in (base_of_queue(gauge.queue) for gauge in self.queues if gauge.consumers):
            if base:
                served.setdefault(queue, []).append(base)
        return served


class Page(NamedTuple):
    """Jobs, newest first, and the cursor of the next page (empty at the end); a filtered page may be short."""

    jobs: list[Job]
    next: str


def get(job_id: str, tenant_id: str = "") -> Call[Job]:
    """Read a job of this tenant (of any tenant where it is empty); raises `NotFound`."""
    args = {"id": job_id, "tenant_id": tenant_id}
    return Call("get", args, lambda reply: Job.from_hash(reply["job"]), lambda _: gone(job_id))


def list_jobs(
    tenant_id: str,
    *,
    limit: int = 50,
    before: str = "",
    state: JobState | None = None,
    kind: JobKind | None = None,
    dead: bool = False,
) -> Call[Page]:
    """List a tenant's jobs, newest first; `dead` lists the dead letters."""
    args = {
        "tenant_id": tenant_id,
        "limit": limit,
        "before": before or "+inf",
        "state": state or "",
        "kind": kind or "",
        "dead": dead,
    }
    return Call("list", args, lambda r: Page([Job.from_hash(j) for j in r["jobs"] or []], r["next"]), never)


def gauges() -> Call[Gauges]:
    """Count waiting jobs, running jobs and live consumers of every queue, and jobs by state."""

    def read(reply: Reply) -> Gauges:
        queues = [Gauge(*row) for row in reply["queues"] or []]
        return Gauges(queues, dict(reply["states"]), dict(reply["given_up"]))

    return Call("gauges", {}, read, never)
