"""Lets a thread that has done a job take the next message itself; decision 46 has the measurements."""

import itertools
import threading
from collections.abc import Callable, Sequence

from shared.queue.bus import Bus

IDLE_SECONDS = 0.25
"""For how long a thread waits for its turn, and then for a message: a process that ends waits for both."""


class NextMessage:
    """The threads of a process that have done a job, and wait for another: one at the broker, the others for its place.

    Celery's consumer hands a message to a thread by its event loop, for more CPU time than a short job takes. So it
    only wakes threads: under load, all of them stay awake, and the consumer has none left to hand a message to.
    """

    def __init__(self, bus: Bus, queues: Sequence[str], is_open: Callable[[], bool]) -> None:
        """`queues` may grow; no message is taken while `is_open` is false."""
        self._bus = bus
        self._queues = queues
        self._is_open = is_open
        self._place = threading.Lock()  # who holds it waits at the broker
        self._turns = itertools.count()

    def take(self) -> str | None:
        """Take a message and return its queue; None where none comes soon."""
        if not self._place.acquire(timeout=IDLE_SECONDS):
            return None
        try:
            return self._bus.take(self._in_turn(), IDLE_SECONDS) if self._is_open() else None
        finally:
            self._place.release()

    def _in_turn(self) -> list[str]:
        """The queues, another one first each time: the broker looks at them in this order."""
        first = next(self._turns) % len(self._queues)
        return [*self._queues[first:], *self._queues[:first]]
