"""Whoever counts and logs traffic does so in turns: one process at a time, whatever becomes of the others."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import redis
import structlog

from services.api.infra.clients import Clients
from services.api.infra.tasks import end
from shared.errors import SignalboxError, Unavailable
from shared.ledger import calls
from shared.ledger.calls import StaleTurn, Turn

log = structlog.get_logger()
_LOOK_SECONDS = 0.05


@contextlib.asynccontextmanager
async def turn(clients: Clients, *, if_new: bool = False) -> AsyncIterator[Turn | None]:
    """Take the turn, keep it while the body runs, and end it; None where another has it.

    With `if_new` it is taken only where a selection waits.
    """
    taken = await clients.ledger.do(calls.take_turn(clients.settings.lease_seconds, if_new=if_new))
    if taken is None:
        yield None
        return
    renewing = asyncio.create_task(_renew(clients, taken))
    try:
        yield taken
    finally:
        await end(renewing)
        with contextlib.suppress(SignalboxError, redis.RedisError):
            await clients.ledger.do(calls.write_traffic(taken.fence, 0))


@contextlib.asynccontextmanager
async def next_turn(clients: Clients) -> AsyncIterator[Turn]:
    """Wait for the turn, as long as one that was lost may last; raises `Unavailable`."""
    until = time.monotonic() + 2 * clients.settings.lease_seconds
    while time.monotonic() < until:
        async with turn(clients) as taken:
            if taken is not None:
                yield taken
                return
        await asyncio.sleep(_LOOK_SECONDS)  # before the next try
    raise Unavailable("traffic_busy", "the traffic log is being written all the time; forget once more in a minute")


async def _renew(clients: Clients, taken: Turn) -> None:
    lease = clients.settings.lease_seconds
    while True:
        await asyncio.sleep(lease / 3)
        try:
            await clients.ledger.do(calls.write_traffic(taken.fence, lease))
        except StaleTurn:
            return  # what its work writes is refused, too
        except (SignalboxError, redis.RedisError) as error:
            log.warning("lease_not_renewed", turn=taken.fence, error=str(error))
