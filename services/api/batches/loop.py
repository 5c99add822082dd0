"""Takes batches under leases and runs them side by side, each with its share of what may be in the ledger."""

import asyncio

import structlog

from services.api.batches.metrics import AT_WORK
from services.api.batches.run import BatchRun
from services.api.infra.clients import Clients
from services.api.infra.leased import AtWork, run_leased
from shared.ledger import calls

log = structlog.get_logger()
_MOST_AT_WORK = 100
"""Batches that one process has under a lease; others wait, or another process takes them."""


async def run_batches(clients: Clients, stop: asyncio.Event) -> None:
    """Run batches until `stop`; then give their leases back. Their jobs in the ledger go on."""
    at_work: AtWork[BatchRun] = {}

    def share() -> int:
        return max(1, clients.settings.batch_lines_ahead // max(1, len(at_work)))

    async def take() -> BatchRun | None:
        AT_WORK.set(len(at_work))
        if len(at_work) >= _MOST_AT_WORK:
            return None
        taken = await clients.ledger.do(calls.take_batch(clients.settings.lease_seconds))
        if taken is None:
            return None
        log.info("batch_taken", batch=taken.batch.id, state=taken.batch.state, lease=taken.fence)
        return BatchRun(clients, taken, share)

    await run_leased("batch", stop, take, stale=calls.StaleBatch, at_work=at_work)
