"""Cancels the jobs of clients that left without waiting for their answer."""

import asyncio

import redis
import structlog

from shared.errors import SignalboxError
from shared.ledger import AsyncLedger, calls

log = structlog.get_logger()


class Leavers:
    """Cancels jobs in tasks of its own: the request whose client has left is being torn down itself."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._tasks: set[asyncio.Task[None]] = set()

    def cancel(self, job_id: str, tenant_id: str) -> None:
        """Cancel a job soon; where the ledger is away, the job goes on to its end."""
        task = asyncio.create_task(self._cancel(job_id, tenant_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is being cancelled."""
        await asyncio.gather(*self._tasks)

    async def _cancel(self, job_id: str, tenant_id: str) -> None:
        try:
            await self._ledger.do(calls.cancel(job_id, tenant_id))
        except (SignalboxError, redis.RedisError) as error:
            log.warning("job_not_cancelled", job_id=job_id, error=str(error))
