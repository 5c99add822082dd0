"""Sends messages from an event loop, so that accepting a job waits only for the ledger."""

import asyncio
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import structlog

from shared.ledger.calls import Sent
from shared.ledger.connections import AsyncConnection
from shared.queue.envelopes import Envelopes

log = structlog.get_logger()


class Outbox:
    """Sends messages soon; the reconciler sends another for one that could not be sent."""

    def __init__(self, broker: redis.asyncio.Redis, on_error: Callable[[Sent, redis.RedisError], None]) -> None:
        self._connection = AsyncConnection(broker.connection_pool, timeout_seconds=5)
        self._envelopes = Envelopes()
        self._on_error = on_error

    def put(self, sent: Sent) -> None:
        """Send a message soon, without blocking; called on the event loop."""
        try:
            message = self._envelopes.of(sent)
        except Exception:  # the job is accepted, whatever happens to its message
            log.exception("send_crashed", job_id=sent.job_id)
            return

        def note(reply: asyncio.Future[Any]) -> None:
            error = None if reply.cancelled() else reply.exception()
            if isinstance(error, redis.RedisError):
                self._on_error(sent, error)
            elif error:
                log.error("send_crashed", job_id=sent.job_id, exc_info=error)

        self._connection.call("LPUSH", sent.queue, message).add_done_callback(note)

    async def close(self) -> None:
        """Send the pending messages, then close the connection."""
        await self._connection.close()
