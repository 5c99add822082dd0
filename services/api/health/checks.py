"""Readiness: whether this process and each service it depends on can work."""

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple

import redis

from services.api.infra.clients import Clients
from shared.contracts.base_models import other_base
from shared.errors import Conflict, Invalid, SignalboxError
from shared.ledger import calls
from shared.names import ANY_GROUP, DEFAULT_TENANT, generate_queue
from shared.redis_servers import RedisName, standing_of
from shared.registry.store import S3Store

TIMEOUT_SECONDS = 3.0
NEEDED = ("ledger", "ledger_settings", "base_model")
"""Without the ledger no job is accepted, and with wrong settings it may lose them; where all workers of a group serve
another base model, none of its ends."""


class Check(NamedTuple):
    """The state of one dependency; `needed` means that the API is not ready without it."""

    ok: bool
    detail: str
    needed: bool


async def readiness(clients: Clients) -> dict[str, Check]:
    """Check all dependencies at once; jobs wait in the ledger while broker, store, release or workers are missing."""
    probes = {
        "ledger": _ledger(clients),
        "ledger_settings": _redis_settings(clients, "ledger"),
        "broker": _broker(clients),
        "broker_settings": _redis_settings(clients, "broker"),
        "store": _store(clients),
        "store_settings": _store_settings(clients),
        "release": _release(clients),
        "consumers": _consumers(clients),
        "base_model": _base_model(clients),
    }
    checks = await asyncio.gather(*(_checked(probe, needed=name in NEEDED) for name, probe in probes.items()))
    return dict(zip(probes, checks, strict=True))


async def _checked(probe: Awaitable[str], *, needed: bool) -> Check:
    try:
        return Check(True, await asyncio.wait_for(probe, TIMEOUT_SECONDS), needed)
    except SignalboxError as error:
        return Check(False, error.detail, needed)
    except (redis.RedisError, TimeoutError):
        return Check(False, "does not answer", needed)


async def _ledger(clients: Clients) -> str:
    await clients.room.check_write()
    return "takes writes"


async def _broker(clients: Clients) -> str:
    await clients.broker.ping()
    return "answers"


async def _store(clients: Clients) -> str:
    await asyncio.to_thread(clients.registry.store.exists, "ready")
    return "answers"


async def _redis_settings(clients: Clients, name: RedisName) -> str:
    standing = await asyncio.to_thread(standing_of, clients.settings, name)
    if standing.broken:
        raise Invalid("settings_invalid", standing.text)
    return standing.text


async def _store_settings(clients: Clients) -> str:
    return await asyncio.to_thread(S3Store(clients.settings).check_lifecycle)


async def _release(clients: Clients) -> str:
    return (await clients.releases.current(DEFAULT_TENANT)).id


async def _consumers(clients: Clients) -> str:
    gauges: calls.Gauges = await clients.ledger.do(calls.gauges())
    served = [gauge.queue for gauge in gauges.queues if gauge.consumers]
    unserved = [gauge.queue for gauge in gauges.queues if not gauge.consumers]
    if generate_queue(ANY_GROUP) in served:  # it takes up any group that a release names, within a heartbeat
        unserved = [queue for queue in unserved if not queue.startswith(generate_queue(""))]
    if unserved or not served:
        raise SignalboxError("no_consumer", f"no live worker serves {', '.join(unserved) or 'any queue'}: start one")
    return ", ".join(served)


async def _base_model(clients: Clients) -> str:
    try:
        current = await clients.releases.current(DEFAULT_TENANT)
    except Conflict:  # there is no release, and another check says so
        return "no release needs one"
    needed = current.release.bases_of_queues
    gauges: calls.Gauges = await clients.ledger.do(calls.gauges())
    others = {queue: bases for queue, bases in gauges.bases.items() if set(needed.get(queue, ())) - set(bases)}
    if others:
        lacking = sorted({base for queue, bases in others.items() for base in set(needed[queue]) - set(bases)})
        raise Conflict("base_model_mismatch", other_base(current.id, ", ".join(lacking), others))
    return ", ".join(sorted(current.release.bases))


def report(checks: dict[str, Check]) -> dict[str, Any]:
    """Return the body of `/readyz`."""
    return {"ready": is_ready(checks), "parts": {name: check._asdict() for name, check in checks.items()}}


def is_ready(checks: dict[str, Check]) -> bool:
    """Whether every needed dependency answers."""
    return all(check.ok for check in checks.values() if check.needed)
