"""Finds jobs with neither a live lease nor a message in a queue, and sends them again, in one process at a time.

How it tells a lost message from a backlog: the ledger notes when each waiting job was last sent. A job that was sent
before the queue's oldest message and still waits, in two consecutive rounds, has lost its message.
"""

import json
import math
import threading
from collections.abc import Iterator

import redis
import structlog

from shared.errors import Unavailable
from shared.ledger import Ledger, calls
from shared.ledger.calls import Sent
from shared.ledger.keys import LedgerKey
from shared.queue.bus import Bus
from shared.queue.envelopes import SENT_HEADER
from shared.settings import Settings

log = structlog.get_logger()
_PART = 1000
"""Number of jobs that one call marks: it blocks the ledger for 20 ms, and a crash loses no more messages than this."""


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
        self._suspects: dict[str, set[str]] = {}
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
        ttl_ms = int(self._every_seconds * 3000)
        if self._ledger.redis.set(LedgerKey.RECONCILER, self._owner, nx=True, px=ttl_ms):
            self._suspects.clear()
            return True
        if self._ledger.redis.get(LedgerKey.RECONCILER) != self._owner:
            return False
        self._ledger.redis.pexpire(LedgerKey.RECONCILER, ttl_ms)
        return True

    def round(self) -> int:
        """Check every queue once; returns the number of jobs sent again."""
        queues = [gauge.queue for gauge in self._ledger.do(calls.gauges()).queues]
        count = 0
        for queue in queues:
            while expired := self._ledger.do(calls.expire(queue)):
                count += self._send_again(expired, "lease")
            count += self._lost(queue)
        return count

    def _lost(self, queue: str) -> int:
        waiting = self._ledger.do(calls.waiting_before(queue, self._oldest_ms(queue), self._grace_seconds))
        seen = set(waiting)
        lost = seen & self._suspects.get(queue, set())
        self._suspects[queue] = seen - lost
        return sum(self._send_lost(queue, part) for part in _parts(sorted(lost)))

    def _send_lost(self, queue: str, job_ids: list[str]) -> int:
        return self._send_again(self._ledger.do(calls.mark_sent(queue, job_ids)), "message")

    def _oldest_ms(self, queue: str) -> str:
        """Return when the oldest message of a queue was sent; empty where the queue has no messages.

        Returns "0" for a foreign message: no job was sent before that time, so none counts as lost until a worker has
        discarded the message.
        """
        raw = self._broker.lindex(queue, -1)
        if raw is None:
            return ""
        try:
            sent_ms = float(json.loads(raw)["headers"][SENT_HEADER])
        except (ValueError, TypeError, LookupError):
            return "0"
        return f"{sent_ms:.3f}" if 0 < sent_ms < math.inf else "0"

    def _send_again(self, batch: list[Sent], lost: str) -> int:
        for sent in batch:
            log.info("sent_again", job_id=sent.job_id, queue=sent.queue, lost=lost)
            self._bus.send(sent)
        return len(batch)


def _parts(job_ids: list[str]) -> Iterator[list[str]]:
    return (job_ids[start : start + _PART] for start in range(0, len(job_ids), _PART))
