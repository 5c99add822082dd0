"""What a traffic log keeps, its rows, and the counts of selections."""

import asyncio
import time
from datetime import UTC, datetime

import structlog

from services.api.infra.clients import Clients
from services.api.traffic.redaction import Redactor
from shared.contracts.proposals import ProposalPolicy
from shared.contracts.traffic import SKETCH_DAYS, Position, TrafficPolicy, TrafficRow, TrafficSketch
from shared.errors import Invalid
from shared.ledger import calls
from shared.security.api_keys import Key

log = structlog.get_logger()
_HOUR_SECONDS = 3600


async def policy(clients: Clients, caller: Key) -> TrafficPolicy:
    """Return the policy of the caller's tenant."""
    return await asyncio.to_thread(clients.registry.traffic.policy, caller.tenant_id)


async def set_policy(clients: Clients, caller: Key, wanted: TrafficPolicy) -> TrafficPolicy:
    """Let a policy hold from now on; a log that comes is followed with the caller's key, where no key does so yet.

    Raises `Invalid` `pattern_invalid`.
    """
    await asyncio.to_thread(Redactor, wanted)
    await asyncio.to_thread(clients.registry.traffic.set_policy, caller.tenant_id, wanted)
    if wanted.on:
        await clients.ledger.do(calls.follow_log(caller.tenant_id, ProposalPolicy(), caller.id, only_new=True))
    log.info("traffic_policy_set", tenant_id=caller.tenant_id, key=caller.id, on=wanted.on, share=wanted.share)
    return wanted


async def rows(clients: Clients, caller: Key, after: Position, since: datetime | None, limit: int) -> list[TrafficRow]:
    """Return the next rows of the log, oldest first; raises `Unavailable`."""
    traffic, since_ms = clients.registry.traffic, since.timestamp() * 1000 if since else 0.0
    return await asyncio.to_thread(traffic.page, caller.tenant_id, limit, since_ms=since_ms, after=after)


async def sketches(clients: Clients, caller: Key, first: datetime | None, last: datetime | None) -> list[TrafficSketch]:
    """Return the counts of the hours from `first` to `last`, by default of the last day; raises `Invalid`."""
    until = int(last.timestamp() if last else time.time()) // _HOUR_SECONDS
    since = int(first.timestamp()) // _HOUR_SECONDS if first else until - 23
    if not 0 <= until - since <= SKETCH_DAYS * 24:
        said = " to ".join(datetime.fromtimestamp(hour * _HOUR_SECONDS, UTC).isoformat() for hour in (since, until))
        raise Invalid(
            "span_invalid", f"{said} is no span of 1 to {SKETCH_DAYS} days: ask for a later `to`, or for less"
        )
    hours = range(since, until + 1)
    return await asyncio.to_thread(lambda: clients.registry.traffic.sketches(caller.tenant_id, hours))
