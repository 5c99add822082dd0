"""The adapters of one group of layers on a card: two launches, whose tiles came with the step's one upload."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from services.adapter_worker.engine.native.card.launching import INTERPRETED, SMALLEST_DOT, Workspace, power_of_two
from services.adapter_worker.engine.native.kernels import triton_lora
from services.adapter_worker.engine.native.lora.segments import AdapterSegments, SlotRange

_LONG = 32
"""Segments of at least this many rows make the tiles of a step large."""
_LONG_ROWS = 64
_BLOCK, _COLUMNS = 128, 128
_PIECES = 8
"""Most parts in which the sum over a layer's input is made: the same ones in each step, so a row is as it is alone."""

Tile = tuple[int, int, int]
"""First row, number of rows, first slot of the adapter."""


class AdapterTiles(NamedTuple):
    """Rows by adapter; the table is on the card."""

    table: Tensor  # [tiles x 3]
    rows: int  # of the step
    height: int  # rows of a tile
    slots: int  # most slots of an adapter
    firsts: frozenset[int]  # first slots of the adapters

    @classmethod
    def of(cls, segments: AdapterSegments, rows: int) -> "AdapterTiles":
        """Cut the segments of a step of so many rows; the table is on the host."""
        is_long = any(segment.length >= _LONG for segment in segments.all)
        height = _LONG_ROWS if is_long else SMALLEST_DOT
        tiles: list[Tile] = [
            (n, min(height, segment.end - n), segment.slots.first)
            for segment in segments.all
            for n in range(segment.start, segment.end, height)
        ]
        slots = power_of_two(max((segment.slots.size for segment in segments.all), default=1))
        firsts = frozenset(segment.slots.first for segment in segments.all)
        return cls(torch.tensor(tiles, dtype=torch.int32).flatten(), rows, height, slots, firsts)


class BatchTiles:
    """The tiles of the running step: over all its tokens, and over those whose logits are needed."""

    def __init__(self) -> None:
        self.tokens: AdapterTiles | None = None
        self.last: AdapterTiles | None = None


class CardAdapters:
    """What the kernels know of a group's adapters: weights, how many slots each has, and DoRA's gains."""

    def __init__(
        self, a: Tensor, b: Tensor, bounds: Sequence[int], *, batch: BatchTiles, is_head: bool, workspace: Workspace
    ) -> None:
        """`a` is [slots, layers x rank, in], `b` [slots, rank, outs]; `bounds` the layers' columns."""
        self._a, self._b = a, b
        self._batch, self._is_head, self._workspace = batch, is_head, workspace
        self._rank, self._parts = b.shape[1], len(bounds) - 1
        self._piece = -(-a.shape[2] // (_PIECES * _BLOCK)) * _BLOCK
        self._sizes = torch.zeros(len(a), dtype=torch.int32, device=a.device)
        self._firsts: set[int] = set()
        self._gains: Tensor | None = None  # [slots, 2, outs] float32, as soon as an adapter needs it
        blocks = [
            (part, column, bounds[part + 1])
            for part in range(self._parts)
            for column in range(bounds[part], bounds[part + 1], _COLUMNS)
        ]
        self._blocks = torch.tensor(blocks, dtype=torch.int32, device=a.device).flatten()

    def use(self, slots: SlotRange) -> None:
        """Apply what lies in these slots of an adapter from now on."""
        self._firsts.add(slots.first)
        self._sizes[slots.first] = slots.size

    def clear(self, first: int) -> None:
        """Apply the adapter at this slot no more."""
        self._firsts.discard(first)
        self._sizes[first] = 0
        if self._gains is not None:
            self._gains[first, 0] = 1
            self._gains[first, 1] = 0

    def put_gain(self, first: int, columns: slice, gain: Tensor, shift: Tensor | None) -> None:
        """Multiply an adapter's base product by `gain` in these columns, and add `shift` [columns]."""
        if self._gains is None:
            self._gains = self._a.new_zeros(len(self._a), 2, self._b.shape[2], dtype=torch.float32)
            self._gains[:, 0] = 1
        self._gains[first, 0, columns] = gain
        if shift is not None:
            self._gains[first, 1, columns] = shift

    def apply(self, x: Tensor, y: Tensor) -> None:
        """Add to y [1, rows, outs] what the adapters make of x [1, rows, in]."""
        tiles = self._batch.last if self._is_head else self._batch.tokens
        if tiles is None or self._firsts.isdisjoint(tiles.firsts):
            return
        count, into = len(tiles.table) // 3, self._a.shape[2]
        pieces = -(-into // self._piece)
        low = self._workspace.of(pieces * tiles.rows * self._parts * tiles.slots * self._rank)
        triton_lora.shrink[(count, tiles.slots, pieces)](
            x, self._a, low, tiles.table, self._sizes, tiles.rows, x.stride(-2),
            INTO=into, PARTS=self._parts, RANK=self._rank, SLOTS=tiles.slots, ROWS=tiles.height,
            OUTS=max(SMALLEST_DOT, power_of_two(self._parts * self._rank)), BLOCK=min(_BLOCK, self._piece),
            PIECE=self._piece, WIDEN=INTERPRETED,
        )  # fmt: skip
        triton_lora.expand[(count, len(self._blocks) // 3)](
            low, self._b, y, tiles.table, self._sizes, self._blocks, low if self._gains is None else self._gains,
            tiles.rows, y.stride(-2), OUTS=self._b.shape[2], PARTS=self._parts, RANK=self._rank, SLOTS=tiles.slots,
            PIECES=pieces, ROWS=tiles.height, COLUMNS=_COLUMNS, RANKS=SMALLEST_DOT, HAS_GAINS=self._gains is not None,
        )  # fmt: skip
