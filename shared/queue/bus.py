"""The sender of messages to the queues."""

from collections.abc import Sequence
from functools import cached_property

import redis
from celery import Celery
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.errors import Unavailable
from shared.ledger.calls import Sent
from shared.ledger.coalesce import Coalescer
from shared.queue.envelopes import Envelopes


class Bus:
    """Sends messages, each of which wakes a worker of a queue, over the broker."""

    def __init__(self, app: Celery) -> None:
        options = app.conf.broker_transport_options
        self._broker = redis.Redis.from_url(
            app.conf.broker_url,
            socket_keepalive=True,
            socket_timeout=options["socket_timeout"],
            socket_connect_timeout=options["socket_connect_timeout"],
            # One retry: a pooled connection may be from before a restart; a message that arrives twice is harmless.
            retry=Retry(ExponentialBackoff(cap=0.2), 1),
        )
        self._envelopes = Envelopes()
        self._coalesced: Coalescer[tuple[str, str], None] = Coalescer(self._push)

    def send(self, sent: Sent) -> None:
        """Publish one message; raises `Unavailable` where the broker is down (the reconciler sends one later)."""
        try:
            self._coalesced((sent.queue, self._envelopes.of(sent)))
        except redis.RedisError as error:
            raise Unavailable("broker_unavailable", "the broker (Redis) does not answer; try again shortly") from error

    @cached_property
    def _sender(self) -> redis.Redis:
        """A client with a connection of its own: one call is made at a time, and the pool costs a third of a call."""
        return redis.Redis(connection_pool=self._broker.connection_pool, single_connection_client=True)

    def _push(self, messages: Sequence[tuple[str, str]]) -> list[None]:
        if len(messages) == 1:
            self._sender.lpush(*messages[0])
            return [None]
        pipeline = self._broker.pipeline(transaction=False)
        for queue, message in messages:
            pipeline.lpush(queue, message)
        pipeline.execute()
        return [None] * len(messages)
