"""Makes the deliveries that are due; any number of processes may.

A delivery is claimed for a while, so that one whose process ends is made by another: it arrives at least once, and its
receiver tells a second arrival by the header `webhook-id`.
"""

import asyncio
import json
import random
import time
from collections import Counter
from datetime import UTC, datetime
from typing import NamedTuple

import redis
import structlog

from services.api.infra.clients import Clients
from services.api.webhooks.sealing import seal_anew
from services.api.webhooks.signing import body_of, headers_of
from shared.contracts.webhooks import pause_seconds
from shared.errors import SignalboxError
from shared.ledger import AsyncLedger, calls
from shared.ledger.calls import Claimed
from shared.ledger.calls.webhooks import Fields
from shared.security.outbound import InnerHosts, post
from shared.security.sealed import Sealed
from shared.settings import Settings

log = structlog.get_logger()
SLOTS = 256
"""Deliveries that one process has under way."""
AT_ONCE = 8
"""Of them to one endpoint; one where every try of a minute has failed. So a slow endpoint holds up itself alone."""
LOOK_SECONDS = 0.5
_GONE = 410
_MAX_ERROR_CHARS = 300


class Tried(NamedTuple):
    """What a receiver answered: a status, 0 where it gave none, and what was wrong."""

    status: int
    error: str


async def deliver_webhooks(clients: Clients, stop: asyncio.Event) -> None:
    """Make what is due until `stop` is set."""
    await deliver(clients.ledger, clients.settings, stop)


async def deliver(ledger: AsyncLedger, settings: Settings, stop: asyncio.Event) -> None:
    """Make what is due until `stop` is set, then finish what is under way."""
    await seal_anew(ledger, settings)
    courier = _Courier(ledger, settings)
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        if not await courier.start_due():
            await asyncio.wait({stopping, *courier.under_way}, timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
    await asyncio.gather(*courier.under_way)


class _Courier:
    def __init__(self, ledger: AsyncLedger, settings: Settings) -> None:
        self._ledger = ledger
        self._sender = Sender(settings)
        self._lease_seconds = 2 * settings.webhook_seconds
        self._keep_seconds = settings.result_ttl_seconds
        self._busy: Counter[str] = Counter()
        self.under_way: set[asyncio.Task[None]] = set()

    async def start_due(self) -> bool:
        """Start what is due, as far as slots are free; returns whether anything was."""
        free = SLOTS - len(self.under_way)
        if not free:
            return False
        claim = calls.claim_deliveries(
            +self._busy, limit=free, at_once=AT_ONCE, endpoints=2 * SLOTS, lease_seconds=self._lease_seconds
        )
        try:
            claimed = await self._ledger.do(claim)
        except (SignalboxError, redis.RedisError) as error:
            log.warning("deliveries_not_claimed", error=str(error))
            return False
        for one in claimed:
            task = asyncio.create_task(self._make(one))
            self._busy[one.endpoint["id"]] += 1
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)
        return bool(claimed)

    async def _make(self, claimed: Claimed) -> None:
        endpoint, delivery = claimed
        try:
            tried = await self._sender.send_delivery(endpoint, delivery)
            await self._settle(claimed, tried)
        except (SignalboxError, redis.RedisError) as error:  # its claim ends, and it is made again
            log.warning("delivery_not_settled", endpoint=endpoint["id"], delivery=delivery["id"], error=str(error))
        finally:
            self._busy[endpoint["id"]] -= 1

    async def _settle(self, claimed: Claimed, tried: Tried) -> None:
        attempts = int(claimed.delivery["attempts"]) + 1
        is_disabled = await self._ledger.do(
            calls.settle_delivery(
                claimed,
                made=not tried.error,
                status=tried.status,
                error=tried.error,
                pause_seconds=pause_seconds(attempts, random.uniform(-1, 1)),  # noqa: S311 - spread, no secret
                gone=tried.status == _GONE,
                keep_seconds=self._keep_seconds,
            )
        )
        told = {"endpoint": claimed.endpoint["id"], "delivery": claimed.delivery["id"], "attempts": attempts}
        if tried.error:
            log.info("delivery_failed", **told, status=tried.status, error=tried.error)
        if is_disabled:
            log.warning("webhook_disabled", **told, tenant_id=claimed.endpoint["tenant_id"])


class Sender:
    """Signs events and sends them to endpoints."""

    def __init__(self, settings: Settings) -> None:
        self._sealed = Sealed(settings.webhook_key.get_secret_value())
        self._inner = InnerHosts.of(settings.webhook_inner_hosts)
        self._seconds = settings.webhook_seconds

    async def send_delivery(self, endpoint: Fields, delivery: Fields) -> Tried:
        """Make one try; whatever goes wrong with it is its result."""
        body = body_of(delivery["id"], delivery["type"], float(delivery["created"]), json.loads(delivery["data"]))
        try:
            status = await self.send(endpoint, delivery["id"], body)
        except SignalboxError as error:
            return Tried(0, error.detail[:_MAX_ERROR_CHARS])
        return Tried(status, _wrong_with(status))

    async def send(self, endpoint: Fields, event_id: str, body: str) -> int:
        """Send an event and return the status of the answer; raises `Denied`, `Unavailable`."""
        sealed = [endpoint["secret"]]
        if float(endpoint.get("old_secret_until", 0)) > time.time():
            sealed.append(endpoint["old_secret"])
        headers = headers_of(event_id, body, map(self._sealed.open, sealed), datetime.now(UTC))
        return await post(endpoint["url"], body.encode(), headers, seconds=self._seconds, inner=self._inner)


def _wrong_with(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return f"the endpoint answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")
