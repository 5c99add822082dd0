"""Operations on an existing job: find, cancel, replay, drop."""

from services.api.infra.clients import Clients
from shared.contracts.jobs import Job, JobKind, JobState
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


async def drop(clients: Clients, caller: Key, job_id: str) -> None:
    """Drop a dead letter; raises `NotFound`."""
    await clients.ledger.do(calls.drop(job_id, caller.tenant_id))
