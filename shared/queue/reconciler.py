"""Ends what has lost its worker, sends the messages that are missing, forgets ended jobs; in one process at a time.

Any message wakes a worker for any job of its queue. So no message needs to be looked for: where the broker has held
fewer messages than jobs wait in the ledger, for longer than a message is on its way, as many are sent as were always
missing. A message too many finds nothing.

Where many jobs waited for one that has ended, the ledger settles them in parts: the first within the call that ended
it, the others here.
"""

import secrets
import threading
import time
from typing import NamedTuple

import redis
import structlog

from shared.errors import Unavailable
from shared.ledger import Ledger, calls
from shared.ledger.calls import Sent
from shared.queue.bus import Bus
from shared.queue.retention import Retention
from shared.settings import Settings

log = structlog.get_logger()


class _Missing(NamedTuple):
    """The least number of a queue's messages that was missing since a time (of the monotonic clock)."""

    since: float
    least: int


class Reconciler:
    """A thread in every Celery service; a lock in the ledger lets one process work at a time."""

    def __init__(self, ledger: Ledger, bus: Bus, settings: Settings, owner: str) -> None:
        self._ledger = ledger
        self._bus = bus
        self._owner = owner
        self._every_seconds = settings.reconcile_seconds
        self._grace_seconds = settings.lost_after_seconds
        self._lease_seconds = settings.lease_seconds
        self._broker = redis.Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=3)
        self._missing: dict[str, _Missing] = {}
        self._retention = Retention(ledger, settings)
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread; it ends with the process or with `stop`."""
        threading.Thread(target=self._run, name="reconciler", daemon=True).start()

    def stop(self) -> None:
        """End the thread after its current round."""
        self._stop.set()

    def _run(self) -> None:
        pause_seconds = self._every_seconds
        while not self._stop.wait(pause_seconds):
            pause_seconds = self._work_if_leading()

    def _work_if_leading(self) -> float:
        """Run a round if this process holds the lock; returns the seconds to wait."""
        try:
            if self._leads():
                self.round()
        except (Unavailable, redis.RedisError) as error:
            log.warning("reconcile_failed", error=str(error))
        except Exception:  # without this thread, lost jobs stay lost
            log.exception("reconcile_crashed")
        else:
            return self._every_seconds
        # Leases ran out while the ledger was away: give their owners' heartbeats time to renew them.
        return max(self._lease_seconds, self._every_seconds)

    def _leads(self) -> bool:
        leading = self._ledger.do(calls.lead(self._owner, ttl_seconds=self._every_seconds * 3))
        if leading == "anew":
            self._missing.clear()
        return leading != "no"

    def round(self) -> int:
        """Check every queue once, and forget ended jobs; returns the number of messages sent."""
        count = self._settle()
        for gauge in self._ledger.do(calls.gauges()).queues:
            while expired := self._ledger.do(calls.expire(gauge.queue)):
                count += self._send(expired, "lease")
        gauges = self._ledger.do(calls.gauges())
        for gauge in gauges.queues:
            lost = self._lost(gauge.queue, gauge.waiting - self._broker.llen(gauge.queue))
            count += self._send([Sent(f"any_{secrets.token_hex(12)}", gauge.queue) for _ in range(lost)], "message")
        self._retention.round(gauges.held)
        return count

    def _settle(self) -> int:
        """Go on with what waited for jobs that have ended, part by part."""
        count, more = 0, True
        while more:
            released, more = self._ledger.do(calls.settle())
            count += self._send(released, "dependency")
        return count

    def _lost(self, queue: str, missing: int) -> int:
        """Return how many of a queue's messages are lost, and not only on their way."""
        now, known = time.monotonic(), self._missing.pop(queue, None)
        if missing <= 0:
            return 0
        known = _Missing(known.since, min(known.least, missing)) if known else _Missing(now, missing)
        if now - known.since >= self._grace_seconds:
            return known.least
        self._missing[queue] = known
        return 0

    def _send(self, batch: list[Sent], lost: str) -> int:
        for sent in batch:
            log.info("sent_again", job_id=sent.job_id, queue=sent.queue, lost=lost)
            self._bus.send(sent)
        return len(batch)
