"""Which rows of a step use which adapter: what the linear layers need to know, worked out once a step."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

LONG = 32
"""From so many rows on a product of its own beats the padded one."""
HEAVY = 512
"""From so many rows times slots on a product of its own beats the kernel."""


class SlotRange(NamedTuple):
    """Neighbouring slots of the bank: an adapter takes as many as its rank needs."""

    first: int
    size: int


class Span(NamedTuple):
    """Neighbouring rows with one adapter, `end` not included."""

    start: int
    end: int
    run: SlotRange


class Spans:
    """The rows that have an adapter; rows in no span are the base model's and cost nothing."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.firsts = frozenset(span.run.first for span in spans)
        self._subsets: dict[frozenset[int], Spans] = {}

    @classmethod
    def of(cls, runs: Iterable[SlotRange | None]) -> "Spans":
        """Merge neighbouring rows of one adapter; runs[i] is row i's."""
        spans: list[Span] = []
        start = 0
        for run, rows in groupby(runs):
            end = start + sum(1 for _ in rows)
            if run is not None:
                spans.append(Span(start, end, run))
            start = end
        return cls(spans)

    def among(self, firsts: frozenset[int]) -> "Spans":
        """The spans of the adapters that begin at these slots."""
        if self.firsts <= firsts:
            return self
        kept = self.firsts & firsts
        if kept not in self._subsets:
            self._subsets[kept] = Spans([span for span in self.spans if span.run.first in kept])
        return self._subsets[kept]

    @cached_property
    def heavy(self) -> list[Span]:
        """Spans with so much arithmetic that torch's products beat the kernel."""
        return [span for span in self.spans if (span.end - span.start) * span.run.size >= HEAVY]

    @cached_property
    def table(self) -> Tensor:
        """What the kernel reads of all others: start, end, first slot, slots [spans, 4]."""
        light = [(span.start, span.end, *span.run) for span in self.spans if span not in self.heavy]
        return torch.tensor(light, dtype=torch.int32).view(-1, 4)

    @cached_property
    def long(self) -> list[Span]:
        """Spans that are worth a product each."""
        return [span for span in self.spans if span.end - span.start >= LONG]

    @cached_property
    def short(self) -> "Padded | None":
        """All others, padded to one width."""
        entries = [(span, slot) for span in self.spans if span.end - span.start < LONG for slot in _slots(span.run)]
        return Padded.of(entries) if entries else None


class Padded(NamedTuple):
    """Short spans as entries of equal width, one for each slot; padding points at row 0 under mask 0."""

    rows: Tensor  # [entries, width]
    mask: Tensor  # [entries, width, 1]
    slots: Tensor  # [entries]

    @classmethod
    def of(cls, entries: Sequence[tuple[Span, int]]) -> "Padded":
        """Build the index tensors of spans, each with one of its slots."""
        width = max(span.end - span.start for span, _ in entries)
        rows = [[*range(span.start, span.end), *[0] * (width - span.end + span.start)] for span, _ in entries]
        mask = [[[n < span.end - span.start] for n in range(width)] for span, _ in entries]
        return cls(torch.tensor(rows), torch.tensor(mask), torch.tensor([slot for _, slot in entries]))

    def to(self, device: torch.device) -> "Padded":
        """The same on another device."""
        return Padded(*(tensor.to(device) for tensor in self))


class Routing:
    """The running step's spans: of all its tokens, and of those whose logits are wanted."""

    def __init__(self) -> None:
        self.tokens = Spans([])
        self.last = Spans([])


def _slots(run: SlotRange) -> range:
    return range(run.first, run.first + run.size)
