"""Creates and closes the clients of one API process."""

import asyncio
from dataclasses import dataclass

import redis
import redis.asyncio
import structlog

from services.api.infra.current_release import CurrentReleases
from services.api.infra.event_feed import EventFeed
from services.api.infra.leavers import Leavers
from services.api.infra.ledger_room import LedgerRoom
from services.api.infra.metrics import Metrics
from services.api.infra.open_rollouts import OpenRollouts
from services.api.infra.rate_limits import RateLimits
from services.api.infra.retiring import Retiring
from services.api.infra.user_ids import UserIds
from shared.constraints.checker import ConstraintChecker
from shared.ledger import AsyncLedger, Ledger
from shared.ledger.calls import Sent
from shared.queue.outbox import Outbox
from shared.registry import Registry
from shared.registry.store import S3Store
from shared.settings import Settings

log = structlog.get_logger()
# Each has its file on the local disk while it is read and checked; the others' bodies wait at their senders.
UPLOADS_AT_ONCE = 2


@dataclass(frozen=True)
class Clients:
    """The clients that handlers use; blocking clients are called in threads, never on the event loop."""

    settings: Settings
    ledger: AsyncLedger
    registry: Registry
    releases: CurrentReleases
    retiring: Retiring
    rollouts: OpenRollouts
    broker: redis.asyncio.Redis
    outbox: Outbox
    feed: EventFeed
    metrics: Metrics
    uploads: asyncio.Semaphore
    quotas: RateLimits
    room: LedgerRoom
    leavers: Leavers
    constraints: ConstraintChecker
    user_ids: UserIds

    @classmethod
    def open(cls, settings: Settings, metrics: Metrics) -> "Clients":
        """Create every client; none connects before its first use, so the process starts without Redis."""
        blocking = Ledger(settings.redis_url, **settings.ledger_options)
        registry = Registry(blocking, S3Store(settings), settings.cache_dir)
        retiring = Retiring(registry.retirements)
        rollouts = OpenRollouts(registry.releases, blocking.redis)
        ledger = AsyncLedger(settings.redis_url, **settings.ledger_options)
        broker = redis.asyncio.Redis.from_url(settings.broker_url, socket_timeout=2, socket_connect_timeout=2)
        return cls(
            settings=settings,
            ledger=ledger,
            registry=registry,
            releases=CurrentReleases(
                registry.releases,
                blocking.redis,
                retiring=retiring,
                rollouts=rollouts,
                poll_seconds=settings.pointer_poll_seconds,
            ),
            retiring=retiring,
            rollouts=rollouts,
            broker=broker,
            outbox=Outbox(broker, _note_unsent),
            feed=EventFeed(settings.redis_url, settings.reader_shares),
            metrics=metrics,
            uploads=asyncio.Semaphore(UPLOADS_AT_ONCE),
            quotas=RateLimits(ledger.redis, settings),
            room=LedgerRoom(ledger, settings),
            leavers=Leavers(ledger),
            constraints=ConstraintChecker(),
            user_ids=UserIds(ledger, settings),
        )

    async def close(self) -> None:
        """Send the outbox's pending messages, end the threads and close the connections."""
        await self.feed.close()
        await asyncio.to_thread(self.releases.close)
        await self.outbox.close()
        await self.leavers.close()
        await self.constraints.close()
        await self.ledger.close()
        await self.broker.aclose()


def _note_unsent(sent: Sent, error: redis.RedisError) -> None:
    log.warning("send_failed", job_id=sent.job_id, queue=sent.queue, error=str(error))
