"""Reviews of a tenant's log: queued when enough new rows are there, read when they have ended."""

import asyncio
import time

from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import create
from services.api.proposals.derive import CONTROLLER, derive
from services.api.training.service import remembered
from shared.contracts.jobs import JobKind, JobState, NewJob, Stage, new_job_id
from shared.contracts.proposals import AuditEntry, Learning
from shared.contracts.reviews import ReviewResult, TrafficReview
from shared.contracts.traffic import position_of
from shared.ledger import calls
from shared.ledger.calls import Learner, TakenLearner
from shared.names import TRAIN_QUEUE
from shared.registry.traffic import Traffic
from shared.security.api_keys import Key

LEAST_ROWS = 100
"""New rows that are reviewed at all: the smallest window."""
DUE_SECONDS = 24 * 3600.0
"""After this time fewer new rows than the policy says are enough."""


async def followed(
    clients: Clients, taken: TakenLearner, caller: Key, learner: Learner, current: CurrentRelease
) -> None:
    """Read the review under way, or queue one that is due; raises `StaleLearner`, and what a later try may mend."""
    known = learner.learning
    if known.job:
        moved = await _read(clients, caller, learner, current)
    elif current.release.selector and (upto := await _due(clients, taken.tenant_id, learner)):
        moved = await _queued(clients, caller, learner, upto)
    else:
        return
    if moved is not None:
        learning, audit = moved
        lease = clients.settings.lease_seconds
        await clients.ledger.do(calls.write_learner(taken, lease, learning, audit))


Moved = tuple[Learning, list[AuditEntry]]


async def _read(clients: Clients, caller: Key, learner: Learner, current: CurrentRelease) -> Moved | None:
    """Derive proposals of a review that has ended; None while it runs."""
    known = learner.learning
    job = await remembered(clients, caller.tenant_id, known.job)
    if job and not job.state.is_final:
        return None
    if job and job.state is JobState.SUCCEEDED:
        audit = await derive(clients, caller, learner, current, ReviewResult.model_validate(job.result or {}))
    else:
        why = (job.error or {}).get("detail", f"it was {job.state}") if job else "the ledger has forgotten it"
        audit = [_noted("review_failed", f"job {known.job}: {why}")]
    ended = {"job": "", "reviewed_to": known.upto, "reviewed_at": time.time()}
    return known.model_copy(update=ended), audit


async def _queued(clients: Clients, caller: Key, learner: Learner, upto: str) -> Moved:
    """Queue a review: its id follows from how many there were, so that a killed process queues none twice."""
    known, body = learner.learning, TrafficReview(window=learner.policy.review_every_rows)
    job_id = new_job_id(caller.tenant_id, f"traffic review {known.reviews + 1} {body.window}")
    await create(
        clients,
        NewJob(
            id=job_id,
            **caller.signature,
            kind=JobKind.TRAIN,
            stage=Stage.TRAIN,
            queue=TRAIN_QUEUE,
            body=body.model_dump(mode="json"),
        ),
    )
    begun = {"job": job_id, "job_at": time.time(), "reviews": known.reviews + 1, "upto": upto, "note": ""}
    return known.model_copy(update=begun), [_noted("review_queued", f"job {job_id}")]


async def _due(clients: Clients, tenant_id: str, learner: Learner) -> str:
    """Return the entry of the log's last row where enough rows are new; else nothing."""
    known = learner.learning
    wanted = learner.policy.review_every_rows
    if known.reviewed_at and time.time() - known.reviewed_at >= DUE_SECONDS:
        wanted = LEAST_ROWS
    return await asyncio.to_thread(_last_if, clients.registry.traffic, tenant_id, known.reviewed_to, wanted)


def _last_if(traffic: Traffic, tenant_id: str, after: str, wanted: int) -> str:
    """Return the log's last entry where so many rows come after another."""
    at = position_of(after)
    new = [part for part in traffic.parts(tenant_id) if part.last > at]
    if sum(part.rows for part in new) < wanted or traffic.count(tenant_id, at, new[-1].last) < wanted:
        return ""
    return "{}-{}".format(*new[-1].last)


def _noted(what: str, detail: str) -> AuditEntry:
    return AuditEntry(at=time.time(), by=CONTROLLER, what=what, detail=detail)
