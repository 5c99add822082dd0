"""A thread that sends the messages of jobs."""

import threading
from collections.abc import Callable

import structlog

from shared.errors import Unavailable
from shared.ledger.calls import Sent
from shared.queue.bus import Bus

log = structlog.get_logger()


class Outbox:
    """Sends messages in its own thread, so that accepting a job waits only for the ledger."""

    def __init__(self, bus: Bus, on_error: Callable[[Sent, Unavailable], None]) -> None:
        self._bus = bus
        self._on_error = on_error
        self._pending: list[Sent] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, sent: Sent) -> None:
        """Send a message soon, without blocking; the reconciler sends another for one that could not be sent."""
        with self._wake:
            self._pending.append(sent)
            self._wake.notify()

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send the pending messages, then end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while batch := self._next():
            for sent in batch:
                try:
                    self._bus.send(sent)
                except Unavailable as error:
                    self._on_error(sent, error)
                except Exception:  # if this thread ended, the reconciler would have to send every message
                    log.exception("send_crashed", job_id=sent.job_id)

    def _next(self) -> list[Sent]:
        with self._wake:
            self._wake.wait_for(lambda: self._pending or self._closed)
            batch, self._pending = self._pending, []
            return batch
