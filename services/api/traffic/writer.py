"""Counts and logs what selectors decided, in the order in which they did.

Killed at any moment, whoever has the next turn goes on after the last entry that was counted: what was stored before
that is swept, and each entry counts once. A job that was forgotten or cancelled before its turn came is counted and not
logged.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis
import structlog

from services.api.infra.clients import Clients
from services.api.traffic.changes import LogChange, outdated
from services.api.traffic.rows import Entry, logged_rows
from services.api.traffic.turns import turn
from services.api.traffic.upkeep import sweep
from shared.contracts.packing import pack
from shared.contracts.traffic import (
    MAX_RELEASES,
    OTHERS,
    TrafficPolicy,
    TrafficRow,
    TrafficSketch,
    hour_of,
    position_of,
)
from shared.errors import SignalboxError
from shared.ledger.calls import TrafficMoved, Turn
from shared.ledger.keys import LedgerKey
from shared.registry import Registry
from shared.registry.traffic import read_sketch

log = structlog.get_logger()
AT_ONCE = 500
"""Entries of one turn."""
_LOOK_SECONDS = 1.0
_SWEEP_SECONDS = 600.0


async def log_traffic(clients: Clients, stop: asyncio.Event) -> None:
    """Count and log until `stop`."""
    swept_at = float("-inf")
    while not stop.is_set():
        is_due = time.monotonic() - swept_at > _SWEEP_SECONDS
        swept_at = time.monotonic() if is_due else swept_at
        try:
            if await step(clients, sweeps=is_due):
                continue
        except (SignalboxError, redis.RedisError) as error:
            log.warning("traffic_not_logged", error=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()


async def step(clients: Clients, *, sweeps: bool = False) -> bool:
    """Count and log the selections that wait, up to `AT_ONCE`; returns whether more may wait.

    With `sweeps`, or where the turn before was lost, what is outdated or nobody's goes first.
    Raises `StaleTurn`, `Unavailable`.
    """
    lease = clients.settings.lease_seconds
    async with turn(clients, if_new=not sweeps) as taken:
        if taken is None:
            return False
        if sweeps or taken.was_lost:
            await asyncio.to_thread(sweep, clients.registry, taken, lease)
        try:
            return await asyncio.to_thread(write_next, clients.registry, taken, lease)
        except TrafficMoved:  # nothing of it stayed: the rows are made anew by the policy of now
            return True


def write_next(registry: Registry, taken: Turn, lease_seconds: float) -> bool:
    """Count and log the next selections in this turn; blocking. Raises `StaleTurn`, `TrafficMoved`, `Unavailable`."""
    client: Any = registry.ledger.redis  # its reply types cover asynchronous clients at once
    found = client.xrange(LedgerKey.SELECTIONS, f"({taken.cursor}", "+", count=AT_ONCE)
    if not found:
        return False
    entries = [Entry.read(*one) for one in found]
    change = LogChange(registry, taken, lease_seconds)
    used = _log(registry, change, entries)
    change.write(cursor=entries[-1].id, policies=used, sketches=list(_sketches(client, entries)))
    return len(entries) == AT_ONCE


def _log(registry: Registry, change: LogChange, entries: Sequence[Entry]) -> dict[str, str]:
    """Add the rows that the tenants' policies want; returns these policies, as they are kept."""
    kept = registry.traffic.policies()
    policies = {tenant_id: TrafficPolicy.read(stored) for tenant_id, stored in kept.items()}
    wanted = [one for one in entries if one.tenant_id in kept and policies[one.tenant_id].takes(one.job_id)]
    made: dict[str, list[TrafficRow]] = {}
    for tenant_id, row in logged_rows(registry, wanted, kept):
        made.setdefault(tenant_id, []).append(row)
    for tenant_id, rows in made.items():
        _add(registry, change, tenant_id, rows, policies[tenant_id])
    return {tenant_id: kept[tenant_id] for tenant_id in made}


def _add(
    registry: Registry, change: LogChange, tenant_id: str, rows: Sequence[TrafficRow], policy: TrafficPolicy
) -> None:
    rows = rows[-policy.rows :]
    parts = registry.traffic.parts(tenant_id)
    for start in range(0, len(rows), policy.part_rows):
        parts.append(change.add(tenant_id, rows[start : start + policy.part_rows]))
    for part in outdated(parts, policy, time.time() * 1000):
        change.remove(tenant_id, part)


def _sketches(client: Any, entries: Sequence[Entry]) -> Iterator[tuple[str, int, str, str]]:
    """Yield what is counted of each tenant, hour and release that the entries are of, these included."""
    hours: dict[tuple[str, int], dict[str, TrafficSketch]] = {}
    touched: dict[tuple[str, int, str], TrafficSketch] = {}
    for entry in entries:
        whose = entry.tenant_id, hour_of(position_of(entry.id))
        if whose not in hours:
            hours[whose] = _counted(client, *whose)
        sketch = _sketch_of(hours[whose], whose[1], entry.seen.release)
        sketch.count(entry.seen)
        touched[*whose, sketch.release] = sketch
    yield from ((*whose, pack(sketch.model_dump_json())) for whose, sketch in touched.items())


def _counted(client: Any, tenant_id: str, hour: int) -> dict[str, TrafficSketch]:
    kept: Mapping[str, str] = client.hgetall(LedgerKey.SKETCHES.of(tenant_id, str(hour)))
    return {release: read_sketch(hour, release, stored) for release, stored in kept.items()}


def _sketch_of(sketches: dict[str, TrafficSketch], hour: int, release: str) -> TrafficSketch:
    if release not in sketches and len(sketches) >= MAX_RELEASES:
        release = OTHERS
    return sketches.setdefault(release, read_sketch(hour, release, None))
