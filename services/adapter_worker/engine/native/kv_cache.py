"""Allocation of the key/value cache's pages, with reuse of computed prefixes."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from services.adapter_worker.engine.base import CacheFigures

PAGE = 16
"""Tokens in a page."""


class Prefix(NamedTuple):
    """What keys and values depend on: the adapter that computed them, and every token from the first one on.

    An adapter is named by its digest, so what it computed stays true when it is evicted and comes back.
    """

    adapter: str | None
    ids: tuple[int, ...]


class PagePool:
    """Counts the references to each page; cached prefixes keep their pages until they are needed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))  # last freed, first used: less memory is touched
        self._references = [0] * count
        self._is_kept = [False] * count  # which hold a reference of a cached prefix
        self._used = self._looked_up = self._found = 0
        self._prefixes: OrderedDict[Prefix, int] = OrderedDict()  # to its last page; least recently used first

    @property
    def free_count(self) -> int:
        """Pages without a reference; pages of cached prefixes are not free."""
        return len(self._free)

    @property
    def figures(self) -> CacheFigures:
        """How much of the cache sequences hold, and what their prompts found in it."""
        return CacheFigures(self._used / max(1, self.count), self._looked_up, self._found)

    def reserve(self, tokens: int, prefix: Prefix) -> tuple[list[int], int] | None:
        """Allocate pages; returns them and the number of tokens computed already, or None if too few pages are free.

        Computed are the cached whole pages of `prefix`; they are shared and must not be written to.
        """
        shared = self._cached(prefix)
        self._reference(shared)
        fresh = self._take(pages_for(tokens) - len(shared))
        if fresh is None:
            self.release(shared)
            return None
        return shared + fresh, len(shared) * PAGE

    def count_prompt(self, tokens: int, computed: int) -> None:
        """Note a prompt of so many tokens, and how many of them were computed already."""
        self._looked_up += tokens
        self._found += computed

    def branch(self, pages: Sequence[int], prompt: int, count: int) -> list[list[int]] | None:
        """Allocate pages for `count` more sequences that begin as the one with `pages` does; None if too few are free.

        The whole pages of the prompt are shared; the page in which it ends, if any, is another for each sequence.
        """
        shared = pages[: prompt // PAGE]
        own = len(pages) - len(shared)
        fresh = self._take(own * count)
        if fresh is None:
            return None
        branches = [[*shared, *fresh[n * own : (n + 1) * own]] for n in range(count)]
        self._reference(list(shared) * count)
        return branches

    def release(self, pages: Sequence[int]) -> None:
        """Drop one reference to each page."""
        for page in reversed(pages):
            self._references[page] -= 1
            self._used -= self._references[page] == self._is_kept[page]
            self._free_unused(page)

    def keep(self, prefix: Prefix, pages: Sequence[int]) -> None:
        """Cache the prefix's whole pages, now computed, for other sequences."""
        for number in range(len(prefix.ids) // PAGE):
            part = _part(prefix, number)
            if part not in self._prefixes:
                self._prefixes[part] = pages[number]
                self._references[pages[number]] += 1
                self._is_kept[pages[number]] = True

    def _cached(self, prefix: Prefix) -> list[int]:
        found = []
        for number in range(len(prefix.ids) // PAGE):
            part = _part(prefix, number)
            if part not in self._prefixes:
                break
            self._prefixes.move_to_end(part)
            found.append(self._prefixes[part])
        return found

    def _take(self, count: int) -> list[int] | None:
        """Allocate pages, at the cost of cached prefixes if need be; None if too few are free."""
        while count > len(self._free) and self._prefixes:
            self._evict_prefix()
        if count > len(self._free):
            return None
        fresh = [self._free.pop() for _ in range(count)]
        self._reference(fresh)
        return fresh

    def _evict_prefix(self) -> None:
        _, page = self._prefixes.popitem(last=False)
        self._references[page] -= 1
        self._is_kept[page] = False
        self._free_unused(page)

    def _free_unused(self, page: int) -> None:
        if not self._references[page]:
            self._free.append(page)

    def _reference(self, pages: Sequence[int]) -> None:
        for page in pages:
            self._used += self._references[page] == self._is_kept[page]
            self._references[page] += 1


def pages_for(tokens: int) -> int:
    """Number of pages that hold `tokens`."""
    return -(-tokens // PAGE)


def pages_for_choices(prompt: int, new: int, choices: int) -> int:
    """Number of pages that hold a prompt once and `new` tokens for each choice."""
    return pages_for(prompt + new) * choices - prompt // PAGE * (choices - 1)


def _part(prefix: Prefix, number: int) -> Prefix:
    return Prefix(prefix.adapter, prefix.ids[: (number + 1) * PAGE])
