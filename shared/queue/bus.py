"""The sender of messages to the queues, and the short way to take one."""

from collections.abc import Sequence

import redis
from celery import Celery

from shared.errors import Unavailable
from shared.ledger.calls import Sent
from shared.ledger.connections import Connection
from shared.queue.envelopes import Envelopes


class Bus:
    """Sends messages, each of which wakes a worker of a queue, over the broker, and takes them."""

    def __init__(self, app: Celery) -> None:
        options = app.conf.broker_transport_options
        pool = redis.ConnectionPool.from_url(
            app.conf.broker_url,
            socket_keepalive=True,
            socket_timeout=options["socket_timeout"],
            socket_connect_timeout=options["socket_connect_timeout"],
        )
        self._envelopes = Envelopes()
        # It may send a message twice, which is harmless.
        self._connection = Connection(pool)
        self._taking = Connection(pool)

    def send(self, sent: Sent) -> None:
        """Publish one message; raises `Unavailable` where the broker is down (the reconciler sends one later)."""
        try:
            self._connection.call("LPUSH", sent.queue, self._envelopes.of(sent))
        except redis.RedisError as error:
            raise Unavailable("broker_unavailable", "the broker (Redis) does not answer; try again shortly") from error

    def take(self, queues: Sequence[str], wait_seconds: float) -> str | None:
        """Take the next message of these queues, as Celery's consumer would, and return its queue.

        None where none comes for so long, or the broker is down. One thread at a time may call it.
        """
        try:
            taken = self._taking.call("BRPOP", *queues, wait_seconds)
        except redis.RedisError:  # the consumer waits until the broker is back
            return None
        return str(taken[0], "utf-8") if taken else None
