"""The key/value cache's pages: who holds which, and which prefixes can be used again."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

PAGE = 16
"""Tokens in a page."""


class Prefix(NamedTuple):
    """What makes keys and values equal: the adapter that computed them and every token from the first one on.

    An adapter is named by its digest, so what it computed stays true when it is evicted and comes back.
    """

    adapter: str | None
    ids: tuple[int, ...]


class PagePool:
    """Counts the holders of each page; finished prefixes hold theirs until somebody needs the room."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))  # the last freed is the first used: memory stays small
        self._holders = [0] * count
        self._prefixes: OrderedDict[Prefix, int] = OrderedDict()  # the longest unused first; ends with this page

    @property
    def free_count(self) -> int:
        """Pages that nobody holds, kept prefixes not counted as free."""
        return len(self._free)

    def reserve(self, tokens: int, prefix: Prefix) -> tuple[list[int], int] | None:
        """Pages for so many tokens and how many of the first are computed already; None where room lacks.

        What is computed are the whole pages of `prefix` that were kept; nobody may write to those.
        """
        shared = self._kept(prefix)
        self._hold(shared)
        missing = pages_for(tokens) - len(shared)
        while missing > len(self._free) and self._prefixes:
            self._forget_oldest()
        if missing > len(self._free):
            self.release(shared)
            return None
        fresh = [self._free.pop() for _ in range(missing)]
        self._hold(fresh)
        return shared + fresh, len(shared) * PAGE

    def release(self, pages: Sequence[int]) -> None:
        """Take one holder away from each page."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free.append(page)

    def keep(self, prefix: Prefix, pages: Sequence[int]) -> None:
        """Let others use the prefix's whole pages, which are computed now."""
        for number in range(len(prefix.ids) // PAGE):
            part = _part(prefix, number)
            if part not in self._prefixes:
                self._prefixes[part] = pages[number]
                self._hold(pages[number : number + 1])

    def _kept(self, prefix: Prefix) -> list[int]:
        found = []
        for number in range(len(prefix.ids) // PAGE):
            part = _part(prefix, number)
            if part not in self._prefixes:
                break
            self._prefixes.move_to_end(part)
            found.append(self._prefixes[part])
        return found

    def _forget_oldest(self) -> None:
        _, page = self._prefixes.popitem(last=False)
        self.release([page])

    def _hold(self, pages: Sequence[int]) -> None:
        for page in pages:
            self._holders[page] += 1


def pages_for(tokens: int) -> int:
    """Pages that hold so many tokens."""
    return -(-tokens // PAGE)


def _part(prefix: Prefix, number: int) -> Prefix:
    return Prefix(prefix.adapter, prefix.ids[: (number + 1) * PAGE])
