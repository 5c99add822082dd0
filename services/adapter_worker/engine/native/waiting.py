"""Who joins the running batch next: fair between adapters, and between those who wait live and those who do not."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
_INTERACTIVE_PER_BATCH = 4


class FairQueue(Generic[T]):
    """One line for each adapter and urgency; inside a line the order is that of arrival."""

    def __init__(self) -> None:
        self._lines: dict[tuple[bool, str | None], deque[tuple[int, T]]] = {}
        self._arrivals = 0
        self._interactive_run = 0  # interactive requests since the last batch one

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, item: T, adapter: str | None, *, is_batch: bool) -> None:
        """Put the item at the end of its line."""
        self._lines.setdefault((is_batch, adapter), deque()).append((self._arrivals, item))
        self._arrivals += 1

    def take(self, running: Mapping[str | None, int], fits: Callable[[T], bool]) -> T | None:
        """The next item, if it fits; one that does not keeps its place, or large ones would wait for ever.

        The adapter with the fewest running rows goes first, and among equals the longest wait. Batch work goes when
        no interactive request waits, and after every few of those.
        """
        if not self._lines:
            return None
        is_batch = self._is_batch_next()
        key = min(
            (key for key in self._lines if key[0] is is_batch),
            key=lambda key: (running.get(key[1], 0), self._lines[key][0][0]),
        )
        if not fits(self._lines[key][0][1]):
            return None
        self._interactive_run = 0 if is_batch else self._interactive_run + 1
        _, item = self._lines[key].popleft()
        if not self._lines[key]:
            del self._lines[key]
        return item

    def drop(self, is_done: Callable[[T], bool]) -> None:
        """Take those out that need no turn any more."""
        lines = {key: deque(entry for entry in line if not is_done(entry[1])) for key, line in self._lines.items()}
        self._lines = {key: line for key, line in lines.items() if line}

    def _is_batch_next(self) -> bool:
        kinds = {is_batch for is_batch, _ in self._lines}
        if len(kinds) == 1:
            return kinds.pop()
        return self._interactive_run >= _INTERACTIVE_PER_BATCH
