"""Which request joins the running batch next: fair between adapters, and between interactive and batch requests."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
_INTERACTIVE_PER_BATCH = 4


class FairQueue(Generic[T]):
    """One first-in, first-out queue for each adapter and priority."""

    def __init__(self) -> None:
        self._queues: dict[tuple[bool, str | None], deque[tuple[int, T]]] = {}
        self._arrivals = 0
        self._interactive_run = 0  # interactive requests since the last batch one

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, item: T, adapter: str | None, *, is_batch: bool) -> None:
        """Put the item at the end of its queue."""
        self._queues.setdefault((is_batch, adapter), deque()).append((self._arrivals, item))
        self._arrivals += 1

    def take(self, running: Mapping[str | None, int], fits: Callable[[T], bool]) -> T | None:
        """Take the next item if it fits; one that does not keeps its turn, or large ones would wait for ever.

        The adapter with the fewest running rows goes first, among equals the one that waited longest. A batch item
        goes when no interactive one waits, and after every few interactive ones.
        """
        if not self._queues:
            return None
        is_batch = self._is_batch_next()
        key = min(
            (key for key in self._queues if key[0] is is_batch),
            key=lambda key: (running.get(key[1], 0), self._queues[key][0][0]),
        )
        if not fits(self._queues[key][0][1]):
            return None
        self._interactive_run = 0 if is_batch else self._interactive_run + 1
        _, item = self._queues[key].popleft()
        if not self._queues[key]:
            del self._queues[key]
        return item

    def drop(self, is_done: Callable[[T], bool]) -> None:
        """Remove the items that are done."""
        queues = {key: deque(entry for entry in queue if not is_done(entry[1])) for key, queue in self._queues.items()}
        self._queues = {key: queue for key, queue in queues.items() if queue}

    def _is_batch_next(self) -> bool:
        kinds = {is_batch for is_batch, _ in self._queues}
        if len(kinds) == 1:
            return kinds.pop()
        return self._interactive_run >= _INTERACTIVE_PER_BATCH
