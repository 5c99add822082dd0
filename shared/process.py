"""What every service's process shares: the garbage collector's settings, and turns at what one makes for all."""

import fcntl
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_YOUNG_OBJECTS = 20_000
"""Number of new objects that start a collection; Python's 700 are made by a few requests, whose objects hold no cycles.
"""


def collect_garbage_rarely() -> None:
    """Exempt all present objects from garbage collection, and collect new ones less often.

    Call it when the service is built: a full collection over all imported objects delays every request by tenths of a
    second, and collections cost a twentieth of a routed job's CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Wait until no other process holds this file: of those that start together one makes something for all."""
    with lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
