"""Keeps the logs within their bounds, joins their small parts, and forgets rows."""

import asyncio
import time
from collections.abc import Callable

import structlog

from services.api.infra.clients import Clients
from services.api.traffic.changes import LogChange, joinable, outdated
from services.api.traffic.turns import next_turn
from shared.contracts.traffic import TrafficRow
from shared.ledger.calls import Turn
from shared.ledger.keys import LedgerKey
from shared.registry import Registry
from shared.registry.traffic import folder_of, object_key

log = structlog.get_logger()
Owns = Callable[[TrafficRow], bool]
"""Whether a row is to be forgotten."""


def sweep(registry: Registry, taken: Turn, lease_seconds: float) -> None:
    """Let outdated parts of every log go, join small ones, delete what is nobody's; blocking.

    Raises `StaleTurn`, `Unavailable`.
    """
    for tenant_id in registry.releases.tenants() | registry.traffic.policies().keys():
        change, policy = LogChange(registry, taken, lease_seconds), registry.traffic.policy(tenant_id)
        known = set(registry.store.keys(folder_of(tenant_id)))
        parts = registry.traffic.parts(tenant_id)
        gone = {part for part in parts if object_key(tenant_id, part.name) not in known}
        gone.update(outdated(parts, policy, time.time() * 1000))
        for part in gone:
            change.remove(tenant_id, part)
        for group in joinable([part for part in parts if part not in gone], policy):
            if len(group) > 1:
                change.add(
                    tenant_id, [row for part in group for row in registry.traffic.part_rows(tenant_id, part) or ()]
                )
                for part in group:
                    change.remove(tenant_id, part)
        change.write()
        _delete_strays(registry, tenant_id)


async def forget(clients: Clients, tenant_id: str, owns: Owns, *, is_dry: bool) -> int:
    """Forget rows, or count them; returns how many. What is written meanwhile holds none of a job that is gone.

    Raises `Unavailable`.
    """
    registry = clients.registry
    if is_dry:
        return await asyncio.to_thread(lambda: sum(map(owns, registry.traffic.rows(tenant_id))))
    if not await clients.ledger.redis.hexists(LedgerKey.TRAFFIC_POLICIES, tenant_id):
        return 0  # nothing was ever logged
    async with next_turn(clients) as taken:
        return await asyncio.to_thread(_forget, registry, taken, clients.settings.lease_seconds, tenant_id, owns)


def _forget(registry: Registry, taken: Turn, lease_seconds: float, tenant_id: str, owns: Owns) -> int:
    count = 0
    for part in registry.traffic.parts(tenant_id):
        rows = registry.traffic.part_rows(tenant_id, part) or []
        kept = [row for row in rows if not owns(row)]
        if len(kept) < len(rows):
            change = LogChange(registry, taken, lease_seconds)
            change.remove(tenant_id, part)
            if kept:
                change.add(tenant_id, kept)
            change.write()
            count += len(rows) - len(kept)
    _delete_strays(registry, tenant_id)
    return count


def _delete_strays(registry: Registry, tenant_id: str) -> None:
    """Delete the objects of a log that the ledger does not name; only who has the turn may."""
    named = {object_key(tenant_id, part.name) for part in registry.traffic.parts(tenant_id)}
    for key in registry.store.keys(folder_of(tenant_id)):
        if key not in named:
            registry.store.delete(key)
            log.info("traffic_stray_deleted", key=key)
