"""Selects the label of a text without generating: writes a job and waits for its result for a limited time."""

import asyncio
import contextlib

from services.api.infra.clients import Clients
from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import check_explained, check_sizes, create_under_release, earlier_job
from services.api.jobs.schemas import Accepted, Selection, SelectRequest
from services.api.jobs.views import accepted
from shared.contracts.generation import SelectBody, selection_of
from shared.contracts.jobs import Job, JobKind, JobState, NewJob, Stage, new_job_id
from shared.errors import Conflict, SignalboxError, Unavailable
from shared.ledger import calls
from shared.names import SELECT_QUEUE
from shared.security.api_keys import Key


async def select(
    clients: Clients, caller: Key, request: SelectRequest, idempotency_key: str | None
) -> tuple[Selection | Accepted, bool]:
    """Return the selection, or the job after `wait_seconds`; and whether an earlier request used this key."""
    request = await clients.user_ids.without_id(caller.tenant_id, request)
    body = SelectBody.model_validate(request.body)
    check_sizes(clients.settings, body)
    if not await earlier_job(clients, caller, idempotency_key, caller.sees):
        await clients.quotas.count_tokens(caller, *body.texts)
    job_id = new_job_id(caller.tenant_id, idempotency_key, caller.sees)

    def build(current: CurrentRelease) -> NewJob:
        return selection_job(job_id, caller, request, current)

    # Listen before the job exists, so that its end cannot be missed.
    async with clients.feed.reader(job_id, ends_only=True) as reader:
        _, created = await create_under_release(clients, caller.tenant_id, build)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(request.wait_seconds):
                async for _ in clients.feed.events(reader, is_new=not created.existing):
                    pass
    job = await clients.ledger.do(calls.get(job_id, caller.tenant_id))
    return answer(job), created.existing


def selection_job(job_id: str, caller: Key, request: SelectRequest, current: CurrentRelease) -> NewJob:
    """Return the job for the ledger; raises `Conflict` where the release has no selector, and `Denied`."""
    check_explained(caller, request)
    if current.release.selector is None:
        raise Conflict("no_selector", "the current release has no selector; train one first")
    return NewJob(
        id=job_id,
        **caller.signature,
        kind=JobKind.SELECT,
        stage=Stage.SELECT,
        queue=SELECT_QUEUE,
        body=request.body,
        release=current.id,
        deadline_seconds=600,
    )


def answer(job: Job) -> Selection | Accepted:
    """Return the selection, or the job while it has not ended; raises the error that ended it."""
    if not job.state.is_final:
        return accepted(job.id, job.kind, JobState.QUEUED, release=job.release)
    selection = selection_of(job)
    if job.state is not JobState.SUCCEEDED or selection is None:
        raise _ended_badly(job)
    return Selection(**dict(selection) | {"id": job.id, "state": job.state, "release": job.release})


def _ended_badly(job: Job) -> SignalboxError:
    error = job.error or {"code": f"job_{job.state}", "detail": f"selection {job.id} was {job.state}; ask again"}
    kind = Unavailable if error.get("retryable") else Conflict
    return kind(str(error["code"]), str(error["detail"]))
