"""Whether this process can do its work, part by part."""

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple

import redis

from services.api.infra.clients import Parts
from shared.errors import SignalboxError
from shared.ledger import calls
from shared.names import DEFAULT_TENANT

PATIENCE_SECONDS = 3.0


class Check(NamedTuple):
    """One part: `needed` where the API cannot take jobs without it."""

    ok: bool
    detail: str
    needed: bool


async def readiness(parts: Parts) -> dict[str, Check]:
    """Every part at once; jobs wait in the ledger while broker, store, release or workers are missing."""
    names = ("ledger", "broker", "store", "release", "consumers")
    looks = (_ledger(parts), _broker(parts), _store(parts), _release(parts), _consumers(parts))
    checks = await asyncio.gather(
        *(_checked(look, needed=name == "ledger") for name, look in zip(names, looks, strict=True))
    )
    return dict(zip(names, checks, strict=True))


async def _checked(look: Awaitable[str], *, needed: bool) -> Check:
    try:
        return Check(True, await asyncio.wait_for(look, PATIENCE_SECONDS), needed)
    except SignalboxError as error:
        return Check(False, error.detail, needed)
    except (redis.RedisError, TimeoutError):
        return Check(False, "does not answer", needed)


async def _ledger(parts: Parts) -> str:
    await parts.ledger.redis.ping()
    return "answers"


async def _broker(parts: Parts) -> str:
    await parts.broker.ping()
    return "answers"


async def _store(parts: Parts) -> str:
    await asyncio.to_thread(parts.registry.store.exists, "ready")
    return "answers"


async def _release(parts: Parts) -> str:
    return (await parts.releases.current(DEFAULT_TENANT)).id


async def _consumers(parts: Parts) -> str:
    gauges: calls.Gauges = await parts.ledger.do(calls.gauges())
    served = [gauge.queue for gauge in gauges.queues if gauge.consumers]
    unserved = [gauge.queue for gauge in gauges.queues if not gauge.consumers]
    if unserved or not served:
        raise SignalboxError("no_consumer", f"no live worker serves: {', '.join(unserved) or 'any queue'}")
    return ", ".join(served)


def report(checks: dict[str, Check]) -> dict[str, Any]:
    """What `/readyz` answers."""
    return {"ready": is_ready(checks), "parts": {name: check._asdict() for name, check in checks.items()}}


def is_ready(checks: dict[str, Check]) -> bool:
    """Whether everything that is needed answers."""
    return all(check.ok for check in checks.values() if check.needed)
