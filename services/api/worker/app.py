"""Builds the worker of the API: settings, then clients, then its loops, which end together."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

import structlog

from services.api.batches.loop import run_batches
from services.api.batches.sweep import sweep_files
from services.api.infra.clients import Clients
from services.api.infra.metrics import Metrics
from services.api.proposals.loop import follow_logs
from services.api.rollouts.loop import run_rollouts
from services.api.traffic.writer import log_traffic
from services.api.webhooks.delivery import deliver_webhooks
from services.api.worker.probes import Pulse, serve
from shared.settings import Settings

log = structlog.get_logger()
Loop = Callable[[Clients, asyncio.Event], Awaitable[None]]
"""Works until the event is set, then returns soon; waits itself for ledger and store where they are away."""
LOOPS: Mapping[str, Loop] = {
    "batches": run_batches,
    "files": sweep_files,
    "proposals": follow_logs,
    "rollouts": run_rollouts,
    "traffic": log_traffic,
    "webhooks": deliver_webhooks,
}
_PAUSE_SECONDS = 5.0


async def run(settings: Settings) -> None:
    """Run every loop until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clients = Clients.open(settings, Metrics())
    clients.releases.start()
    pulse = Pulse()
    serve(settings, pulse)
    log.info("service_ready", service="api-worker", loops=sorted(LOOPS))
    beating = asyncio.create_task(pulse.beat())
    try:
        await asyncio.gather(*(_kept_running(name, loop, clients, stop) for name, loop in LOOPS.items()))
    finally:
        beating.cancel()
        await clients.close()
    log.info("service_ended", service="api-worker")


async def _kept_running(name: str, loop: Loop, clients: Clients, stop: asyncio.Event) -> None:
    """Start a loop again where it crashes: the others go on meanwhile."""
    while not stop.is_set():
        try:
            await loop(clients, stop)
        except Exception:
            log.exception("loop_crashed", loop=name)
            await asyncio.sleep(_PAUSE_SECONDS)  # before the next try
