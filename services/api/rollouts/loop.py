"""Takes rollouts under leases and runs them side by side."""

import asyncio

import structlog

from services.api.infra.clients import Clients
from services.api.infra.leased import run_leased
from services.api.rollouts.run import RolloutRun
from shared.ledger import calls

log = structlog.get_logger()


async def run_rollouts(clients: Clients, stop: asyncio.Event) -> None:
    """Run rollouts until `stop`; then give their leases back, so that another process goes on."""

    async def take() -> RolloutRun | None:
        taken = await clients.ledger.do(calls.take_rollout(clients.settings.lease_seconds))
        if taken is None:
            return None
        log.info("rollout_taken", rollout=taken.rollout.id, state=taken.rollout.state, lease=taken.fence)
        return RolloutRun(clients, taken)

    await run_leased("rollout", stop, take, stale=calls.StaleRollout)
