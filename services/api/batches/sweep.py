"""Removes what is left over: files whose time is over, and objects of batches that have ended or never were."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import redis
import structlog

from services.api.infra.clients import Clients
from shared.contracts.batches import folder_of
from shared.errors import NotFound, SignalboxError
from shared.ledger import calls
from shared.ledger.keys import LedgerKey

log = structlog.get_logger()
_EVERY_SECONDS = 600.0
_GRACE = timedelta(days=1)
"""A batch's input is copied before its record is written."""


async def sweep_files(clients: Clients, stop: asyncio.Event) -> None:
    """Sweep from time to time until `stop`."""
    while not stop.is_set():
        try:
            await asyncio.to_thread(sweep, clients)
        except (SignalboxError, redis.RedisError) as error:
            log.warning("not_swept", error=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_SECONDS):
                await stop.wait()


def sweep(clients: Clients) -> None:
    """Remove what is left over of every tenant; blocking. Raises `Unavailable`, `redis.RedisError`."""
    for tenant_id in map(str, clients.registry.ledger.redis.smembers(LedgerKey.TENANTS)):
        for file in clients.registry.files.expired(tenant_id):
            clients.registry.files.remove(file)
            log.info("file_expired", tenant=tenant_id, file=file.id)
        _sweep_batches(clients, tenant_id)


def _sweep_batches(clients: Clients, tenant_id: str) -> None:
    store, ledger, folder = clients.registry.store, clients.registry.ledger, folder_of(tenant_id)
    before = datetime.now(UTC) - _GRACE
    old: dict[str, list[str]] = {}
    for one in store.objects(folder):
        if one.modified_at < before:
            old.setdefault(one.key.removeprefix(folder).partition("/")[0], []).append(one.key)
    for batch_id, keys in old.items():
        try:
            state, kept = ledger.do(calls.get_batch(batch_id, tenant_id)).batch.state, "errors.jsonl"
        except NotFound:
            state, kept = None, None
        for key in keys if state is None or state.is_final else ():
            if not (kept and key.endswith(kept)):
                store.delete(key)
