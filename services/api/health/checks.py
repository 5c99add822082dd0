"""Readiness: whether this process and each service it depends on can work."""

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple

import redis

from services.api.infra.clients import Clients
from shared.errors import SignalboxError
from shared.ledger import calls
from shared.names import DEFAULT_TENANT

TIMEOUT_SECONDS = 3.0


class Check(NamedTuple):
    """The state of one dependency; `needed` means that the API cannot accept jobs without it."""

    ok: bool
    detail: str
    needed: bool


async def readiness(clients: Clients) -> dict[str, Check]:
    """Check all dependencies at once; jobs wait in the ledger while broker, store, release or workers are missing."""
    names = ("ledger", "broker", "store", "release", "consumers")
    probes = (_ledger(clients), _broker(clients), _store(clients), _release(clients), _consumers(clients))
    checks = await asyncio.gather(
        *(_checked(probe, needed=name == "ledger") for name, probe in zip(names, probes, strict=True))
    )
    return dict(zip(names, checks, strict=True))


async def _checked(probe: Awaitable[str], *, needed: bool) -> Check:
    try:
        return Check(True, await asyncio.wait_for(probe, TIMEOUT_SECONDS), needed)
    except SignalboxError as error:
        return Check(False, error.detail, needed)
    except (redis.RedisError, TimeoutError):
        return Check(False, "does not answer", needed)


async def _ledger(clients: Clients) -> str:
    await clients.ledger.redis.ping()
    return "answers"


async def _broker(clients: Clients) -> str:
    await clients.broker.ping()
    return "answers"


async def _store(clients: Clients) -> str:
    await asyncio.to_thread(clients.registry.store.exists, "ready")
    return "answers"


async def _release(clients: Clients) -> str:
    return (await clients.releases.current(DEFAULT_TENANT)).id


async def _consumers(clients: Clients) -> str:
    gauges: calls.Gauges = await clients.ledger.do(calls.gauges())
    served = [gauge.queue for gauge in gauges.queues if gauge.consumers]
    unserved = [gauge.queue for gauge in gauges.queues if not gauge.consumers]
    if unserved or not served:
        raise SignalboxError("no_consumer", f"no live worker serves: {', '.join(unserved) or 'any queue'}")
    return ", ".join(served)


def report(checks: dict[str, Check]) -> dict[str, Any]:
    """Return the body of `/readyz`."""
    return {"ready": is_ready(checks), "parts": {name: check._asdict() for name, check in checks.items()}}


def is_ready(checks: dict[str, Check]) -> bool:
    """Whether every needed dependency answers."""
    return all(check.ok for check in checks.values() if check.needed)
