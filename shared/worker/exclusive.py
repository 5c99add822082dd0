"""Lets jobs of a process run together, or one job alone."""

import contextlib
import threading
from collections.abc import Iterator


class ExclusiveGate:
    """A readers-writer lock: threads work together, or one works alone; a thread that waits to be alone goes first."""

    def __init__(self) -> None:
        self._change = threading.Condition()  # guards the two below
        self._working_count = 0
        self._alone_count = 0

    @contextlib.contextmanager
    def beside_others(self) -> Iterator[None]:
        """Work together with other threads; waits for threads that work alone, or wait to do so."""
        with self._change:
            self._change.wait_for(lambda: not self._alone_count)
            self._working_count += 1
        try:
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Work while no other thread does; waits until the others have ended."""
        with self._change:
            self._alone_count += 1
            self._change.wait_for(lambda: not self._working_count)
            self._working_count += 1
        try:
            yield
        finally:
            self._leave(alone=1)

    def _leave(self, *, alone: int = 0) -> None:
        with self._change:
            self._working_count -= 1
            self._alone_count -= alone
            self._change.notify_all()
