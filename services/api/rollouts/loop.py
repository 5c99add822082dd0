"""Takes rollouts under leases and runs them side by side."""

import asyncio
import contextlib

import redis
import structlog

from services.api.infra.clients import Clients
from services.api.rollouts.run import RolloutRun
from shared.errors import SignalboxError
from shared.ledger import calls

log = structlog.get_logger()
_LOOK_SECONDS = 0.5


async def run_rollouts(clients: Clients, stop: asyncio.Event) -> None:
    """Run rollouts until `stop`; then give their leases back, so that another process goes on."""
    at_work: dict[asyncio.Task[None], RolloutRun] = {}
    while not stop.is_set():
        for task in [task for task in at_work if task.done()]:
            _note_end(task, at_work.pop(task))
        if taken := await _take(clients):
            run = RolloutRun(clients, taken)
            log.info("rollout_taken", rollout=run.rollout.id, state=run.rollout.state, lease=taken.fence)
            at_work[asyncio.create_task(run.run())] = run
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
    for task in at_work:
        task.cancel()
    await asyncio.gather(*at_work, return_exceptions=True)
    await asyncio.gather(*(run.release() for run in at_work.values()), return_exceptions=True)


async def _take(clients: Clients) -> calls.TakenRollout | None:
    try:
        return await clients.ledger.do(calls.take_rollout(clients.settings.lease_seconds))
    except (SignalboxError, redis.RedisError) as error:
        log.warning("no_rollout_taken", error=str(error))
        return None


def _note_end(task: asyncio.Task[None], run: RolloutRun) -> None:
    if task.cancelled() or not (error := task.exception()):
        return
    if isinstance(error, calls.StaleRollout):
        log.warning("rollout_lost", rollout=run.rollout.id)
    else:
        log.error("rollout_crashed", rollout=run.rollout.id, exc_info=error)  # its lease ends, and it is taken again
