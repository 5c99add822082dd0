"""Takes batches under leases and runs them side by side, each with its share of what may be in the ledger."""

import asyncio
import contextlib

import redis
import structlog

from services.api.batches.metrics import AT_WORK
from services.api.batches.run import BatchRun
from services.api.infra.clients import Clients
from shared.errors import SignalboxError
from shared.ledger import calls

log = structlog.get_logger()
_MOST_AT_WORK = 100
"""Batches that one process has under a lease; others wait, or another process takes them."""
_LOOK_SECONDS = 0.5


async def run_batches(clients: Clients, stop: asyncio.Event) -> None:
    """Run batches until `stop`; then give their leases back. Their jobs in the ledger go on."""
    at_work: dict[asyncio.Task[None], BatchRun] = {}

    def share() -> int:
        return max(1, clients.settings.batch_lines_ahead // max(1, len(at_work)))

    while not stop.is_set():
        for task in [task for task in at_work if task.done()]:
            _note_end(task, at_work.pop(task))
        AT_WORK.set(len(at_work))
        taken = await _take(clients) if len(at_work) < _MOST_AT_WORK else None
        if taken:
            log.info("batch_taken", batch=taken.batch.id, state=taken.batch.state, lease=taken.fence)
            run = BatchRun(clients, taken, share)
            at_work[asyncio.create_task(run.run())] = run
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
    for task in at_work:
        task.cancel()
    await asyncio.gather(*at_work, return_exceptions=True)
    await asyncio.gather(*(run.release() for run in at_work.values()))


async def _take(clients: Clients) -> calls.Taken | None:
    try:
        return await clients.ledger.do(calls.take_batch(clients.settings.lease_seconds))
    except (SignalboxError, redis.RedisError) as error:
        log.warning("no_batch_taken", error=str(error))
        return None


def _note_end(task: asyncio.Task[None], run: BatchRun) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("batch_crashed", batch=run.batch.id, exc_info=error)  # its lease ends, and it is taken again
