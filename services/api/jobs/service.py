"""Operations on an existing job: find, cancel, replay, drop."""

import contextlib

from services.api.infra.clients import Clients
from shared.contracts.jobs import Job, JobKind, JobState
from shared.errors import Conflict, NotFound
from shared.ledger import calls
from shared.security.api_keys import Key, Scope


async def find(clients: Clients, caller: Key, job_id: str) -> Job:
    """Return a job that the key may read; raises `NotFound`."""
    return await clients.ledger.do(calls.get(job_id, caller.tenant_id, caller.sees))


async def cancel(clients: Clients, caller: Key, job: Job) -> JobState:
    """Cancel a job and return its state; a running job ends within its next step. Raises `Denied`, `NotFound`."""
    if job.kind is JobKind.TRAIN:
        caller.check(Scope.TRAIN)
    return await clients.ledger.do(calls.cancel(job.id, caller.tenant_id))


async def replay(clients: Clients, caller: Key, job_id: str) -> None:
    """Restart a dead letter; raises `NotFound`."""
    clients.outbox.put(await clients.ledger.do(calls.replay(job_id, caller.tenant_id)))


async def replay_all(clients: Clients, caller: Key) -> int:
    """Restart all dead letters of the tenant; returns how many. One whose dependents are being ended stays."""
    count, before = 0, ""
    while True:
        page = await clients.ledger.do(calls.list_jobs(caller.tenant_id, limit=200, before=before, dead=True))
        for job in page.jobs:
            with contextlib.suppress(NotFound, Conflict):
                await replay(clients, caller, job.id)
                count += 1
        if not page.next:
            return count
        before = page.next


async def drop(clients: Clients, caller: Key, job_id: str) -> None:
    """Drop a dead letter; raises `NotFound`."""
    await clients.ledger.do(calls.drop(job_id, caller.tenant_id))
