"""Reads: one job, pages of jobs, and the depth of every queue (`lua/queries.lua`)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from shared.contracts.jobs import Job, JobKind, JobState, ListedJob
from shared.contracts.labels import full_form, short_form
from shared.ledger.calls.base import Call, Reply, gone, never
from shared.names import base_of_queue


class JobFilter(BaseModel):
    """Which jobs a list holds; a filter that is None lets all pass. Times are milliseconds since 1970, of creation."""

    model_config = ConfigDict(frozen=True)

    state: JobState | None = None
    kind: JobKind | None = None
    label: str | None = None
    """The label that the job named, or that the selector chose."""
    rejected: bool | None = None
    """Whether the selector found no label for it, whatever became of the job then."""
    disputed: bool | None = None
    """Whether the parts of the selector were at odds about it."""
    min_probability: float = 0
    max_probability: float = 1
    """Bounds of the best label's probability."""
    feedback: bool | None = None
    """Whether somebody gave feedback."""
    conflict: bool = False
    """Only those about whose label keys differ."""
    key: str | None = None
    """Id of the API key that submitted the job."""
    user: str | None = None
    """Hash of the user that the job named."""
    since_ms: float | None = None
    until_ms: float | None = None


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
    held: dict[str, int]
    """Bytes that the jobs of each tenant may take."""

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

    jobs: list[ListedJob]
    next: str


def get(job_id: str, tenant_id: str = "", line: str = "") -> Call[Job]:
    """Read a job of this tenant and this line of keys (of any, where it is empty); raises `NotFound`."""
    args = {"id": job_id, "tenant_id": tenant_id, "line": line}
    return Call("get", args, lambda reply: Job.from_hash(reply["job"]), lambda _: gone(job_id))


class Unfinished(NamedTuple):
    """What the jobs of one slice need that have not ended, or may be replayed; `next` is empty after the last slice."""

    releases: dict[str, str]
    """One of the jobs that run under it, by release."""
    trainings: list[Job]
    next: str


def unfinished(tenant_id: str, before: str = "+inf") -> Call[Unfinished]:
    """Look through a slice of a tenant's jobs, newest first; `before` is where the slice before ended."""
    args = {"tenant_id": tenant_id, "before": before}

    def read(reply: Reply) -> Unfinished:
        trainings = [Job.from_hash(job) for job in reply["trainings"] or []]
        return Unfinished(dict(reply["releases"]), trainings, reply["next"])

    return Call("unfinished", args, read, never)


_ALL = JobFilter()
Large = Literal["body", "result", "feedback"]
"""A field of a job that may be large."""


def list_jobs(
    tenant_id: str,
    line: str = "",
    *,
    limit: int = 50,
    before: str = "",
    only: JobFilter = _ALL,
    dead: bool = False,
    include: Sequence[Large] = (),
) -> Call[Page]:
    """List the jobs of a tenant, or of one `line` of its keys, newest first; `dead` lists the dead letters.

    The fields that may be large are read only where they are in `include`.
    """
    args = {
        "tenant_id": tenant_id,
        "line": line,
        "limit": limit,
        "before": before or ("+inf" if only.until_ms is None else f"{only.until_ms:.3f}"),
        "since": "-inf" if only.since_ms is None else f"{only.since_ms:.3f}",
        **only.model_dump(
            mode="json", include={"rejected", "disputed", "feedback", "conflict", "min_probability", "max_probability"}
        ),
        **{name: getattr(only, name) or "" for name in ("state", "kind", "key", "user")},
        # Jobs of the version before hold a label of one word with its domain.
        "labels": sorted({short_form(only.label), full_form(only.label)}) if only.label else [],
        "dead": dead,
        "include": [*(f"at_{state}" for state in JobState), *include],
    }
    return Call("list", args, lambda r: Page([ListedJob.from_hash(j) for j in r["jobs"] or []], r["next"]), never)


def gauges() -> Call[Gauges]:
    """Count waiting jobs, running jobs and live consumers of every queue, and jobs by state."""

    def read(reply: Reply) -> Gauges:
        queues = [Gauge(*row) for row in reply["queues"] or []]
        return Gauges(queues, dict(reply["states"]), dict(reply["given_up"]), dict(reply["held"]))

    return Call("gauges", {}, read, never)
