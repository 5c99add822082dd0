"""The rows of a step by adapter, as the linear layers need them; built once a step."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

LONG = 32
"""A segment of at least this many rows is multiplied by itself; shorter ones are padded and multiplied together."""
HEAVY = 512
"""From this product of rows and slots on, torch multiplies a segment faster than the kernel."""


class SlotRange(NamedTuple):
    """Neighbouring slots of the bank: an adapter takes as many as its rank needs."""

    first: int
    size: int


class AdapterSegment(NamedTuple):
    """Neighbouring rows that use one adapter; `end` is exclusive."""

    start: int
    end: int
    slots: SlotRange

    @property
    def length(self) -> int:
        """Number of rows."""
        return self.end - self.start


class AdapterSegments:
    """The rows that use an adapter; rows in no segment use the base model only and cost nothing."""

    def __init__(self, segments: Sequence[AdapterSegment]) -> None:
        self.all = segments
        self._slot_ranges = frozenset(segment.slots for segment in segments)
        self._subsets: dict[frozenset[SlotRange], AdapterSegments] = {}

    @classmethod
    def of(cls, slot_ranges: Iterable[SlotRange | None]) -> "AdapterSegments":
        """Merge neighbouring rows of one adapter; `slot_ranges[i]` belongs to row i."""
        segments: list[AdapterSegment] = []
        start = 0
        for slot_range, rows in groupby(slot_ranges):
            end = start + sum(1 for _ in rows)
            if slot_range is not None:
                segments.append(AdapterSegment(start, end, slot_range))
            start = end
        return cls(segments)

    def among(self, used: frozenset[SlotRange]) -> "AdapterSegments":
        """The segments of the adapters that begin at these slots, each with the slots that are used of its own."""
        if self._slot_ranges <= used:
            return self
        if used not in self._subsets:
            sizes = dict(used)
            self._subsets[used] = AdapterSegments(
                [
                    segment._replace(slots=SlotRange(segment.slots.first, sizes[segment.slots.first]))
                    for segment in self.all
                    if segment.slots.first in sizes
                ]
            )
        return self._subsets[used]

    @cached_property
    def heavy(self) -> list[AdapterSegment]:
        """Segments that torch multiplies faster than the kernel."""
        return [segment for segment in self.all if (segment.length) * segment.slots.size >= HEAVY]

    @cached_property
    def table(self) -> Tensor:
        """All other segments for the kernel, [segments, 4]: start, end, first slot, number of slots."""
        light = [(segment.start, segment.end, *segment.slots) for segment in self.all if segment not in self.heavy]
        return torch.tensor(light, dtype=torch.int32).view(-1, 4)

    @cached_property
    def long(self) -> list[AdapterSegment]:
        """Segments that are multiplied one by one."""
        return [segment for segment in self.all if segment.length >= LONG]

    @cached_property
    def short(self) -> "PaddedSegments | None":
        """All other segments, padded to one width."""
        entries = [(segment, slot) for segment in self.all if segment.length < LONG for slot in _slots(segment.slots)]
        return PaddedSegments.of(entries) if entries else None


class PaddedSegments(NamedTuple):
    """Short segments as entries of equal width, one for each slot; padding points to row 0 and has mask 0."""

    rows: Tensor  # [entries, width]
    mask: Tensor  # [entries, width, 1]
    slots: Tensor  # [entries]

    @classmethod
    def of(cls, entries: Sequence[tuple[AdapterSegment, int]]) -> "PaddedSegments":
        """Build the index tensors of pairs of a segment and one of its slots."""
        width = max(segment.length for segment, _ in entries)
        rows = [[*range(segment.start, segment.end), *[0] * (width - segment.length)] for segment, _ in entries]
        mask = [[[n < segment.length] for n in range(width)] for segment, _ in entries]
        return cls(torch.tensor(rows), torch.tensor(mask), torch.tensor([slot for _, slot in entries]))

    def to(self, device: torch.device) -> "PaddedSegments":
        """The same on another device."""
        return PaddedSegments(*(tensor.to(device) for tensor in self))


class BatchSegments:
    """The adapter segments of the running step: over all its tokens, and over those whose logits are needed."""

    def __init__(self) -> None:
        self.tokens = AdapterSegments([])
        self.last = AdapterSegments([])


def _slots(slot_range: SlotRange) -> range:
    return range(slot_range.first, slot_range.first + slot_range.size)
