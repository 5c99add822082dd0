"""Attention over the paged cache on a card: three Triton kernels, whose tables came with the step's one upload."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from services.adapter_worker.engine.native.attention import AttentionParams, TokenSpan
from services.adapter_worker.engine.native.card.launching import INTERPRETED, SMALLEST_DOT, Workspace, power_of_two
from services.adapter_worker.engine.native.kernels import triton_attention
from services.adapter_worker.engine.native.kv_cache import PAGE

SPLIT = 256
"""Positions that one program attends over for tokens of short spans: more of them are joined by another launch."""
LONG = 32
"""Spans of at least this many tokens are attended in large tiles, each over all its positions."""
_LONG_ROWS = 64
_BLOCK_BYTES = 128
"""Positions of a block times bytes of a number: what fits into the fast memory of small cards, too."""
_WRITTEN = 128 if INTERPRETED else 8
"""Keys and values that one program writes."""
_NO_WINDOW = 1 << 30

Tile = tuple[int, int, int, int]
"""First token in the step, number of tokens, position of the first one, row of the page tables."""


class Heads(NamedTuple):
    """Numbers of query and key heads, and the width of each."""

    of_queries: int
    of_keys: int
    dim: int

    @property
    def group(self) -> int:
        """Rows of a tile that one token takes: the query heads of one key head, and padding."""
        return power_of_two(self.of_queries // self.of_keys)

    @property
    def padded_dim(self) -> int:
        """The width of a block that holds one head."""
        return max(SMALLEST_DOT, power_of_two(self.dim))

    def rows(self, *, is_long: bool) -> int:
        """Rows of a tile."""
        return max(_LONG_ROWS if is_long else SMALLEST_DOT, self.group)


class AttentionTables(NamedTuple):
    """What the kernels read of one step; the tensors are on the card."""

    slots: Tensor  # [tokens], negative for none
    short: Tensor  # tiles of the spans that are short
    long: Tensor
    page_tables: Tensor
    tokens: int
    width: int  # pages in a row of the tables
    reach: tuple[int, int]  # positions behind the furthest token of a short and of a long span


class CardAttention:
    """Attends layer by layer with the tables of the running step."""

    def __init__(self, heads: Heads, dtype: torch.dtype, workspace: Workspace, split: int = SPLIT) -> None:
        self._heads = heads
        self._dtype = dtype
        self._workspace = workspace
        self._block = _BLOCK_BYTES // dtype.itemsize
        self._split = split
        self._tables: AttentionTables | None = None
        self._y: Tensor | None = None

    def tiles(self, spans: Sequence[TokenSpan]) -> tuple[list[Tile], list[Tile]]:
        """Cut the spans of a step: the tiles of the short ones, and those of the long ones."""
        short: list[Tile] = []
        long: list[Tile] = []
        for span in spans:
            is_long = span.size >= LONG
            step = self._heads.rows(is_long=is_long) // self._heads.group
            (long if is_long else short).extend(
                (span.start + n, min(step, span.size - n), span.position + n, span.row)
                for n in range(0, span.size, step)
            )
        return short, long

    def begin(self, tables: AttentionTables) -> None:
        """Attend with these tables from now on."""
        self._tables = tables
        # One tensor for all layers of a step: a layer's is read before the next one's is written.
        shape = (1, tables.tokens, self._heads.of_queries, self._heads.dim)
        self._y = torch.empty(shape, dtype=self._dtype, device=tables.slots.device)

    def attend(self, cache: tuple[Tensor, Tensor], q: Tensor, k: Tensor, v: Tensor, params: AttentionParams) -> Tensor:
        """Write k and v [1, key heads, tokens, dim] to a layer's keys and values, attend q: [1, tokens, heads, dim]."""
        tables, y = self._tables, self._y
        assert tables is not None
        assert y is not None
        q, k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (q, k, v))
        self._write(tables, cache, k, v)
        if len(tables.short):
            splits = power_of_two(-(-tables.reach[0] // self._split))
            self._attend(tables, tables.short, cache, q, y, params, splits)
        if len(tables.long):
            self._attend(tables, tables.long, cache, q, y, params, 0)
        return y

    def _write(self, tables: AttentionTables, cache: tuple[Tensor, Tensor], k: Tensor, v: Tensor) -> None:
        heads = self._heads
        programs = -(-tables.tokens * heads.of_keys // _WRITTEN)
        triton_attention.write[(programs,)](
            k, v, *cache, tables.slots, tables.tokens, k.stride(2), k.stride(1), v.stride(2), v.stride(1),
            heads=heads.of_keys, dim=heads.dim, ROWS=_WRITTEN, DIM=heads.padded_dim,
        )  # fmt: skip

    def _attend(
        self,
        tables: AttentionTables,
        tiles: Tensor,
        cache: tuple[Tensor, Tensor],
        q: Tensor,
        y: Tensor,
        params: AttentionParams,
        splits: int,
    ) -> None:
        """Attend in so many splits; 0 is for long spans, whose tiles attend over all positions at once."""
        heads, rows = self._heads, self._heads.rows(is_long=not splits)
        reach = self._split if splits else _rounded(tables.reach[1])
        count, parts = len(tiles) // 4, max(splits, 1)
        numbers = parts * tables.tokens * heads.of_queries
        scratch = self._workspace.of(numbers * (heads.dim + 2) if parts > 1 else 1)
        stats = scratch[numbers * heads.dim :] if parts > 1 else scratch
        triton_attention.attend[(count, heads.of_keys, parts)](
            q, *cache, y, scratch, stats, tiles, tables.page_tables, tables.tokens, q.stride(2), q.stride(1),
            tables.width, params.scale, params.softcap or 1.0, params.window or _NO_WINDOW,
            heads=heads.of_queries, kv_heads=heads.of_keys, dim=heads.dim, GROUP=heads.group, ROWS=rows,
            DIM=heads.padded_dim, BLOCK=min(self._block, reach), SPLIT=reach, PAGE=PAGE,
            HAS_CAP=params.softcap is not None, IS_WHOLE=parts == 1, WIDEN=INTERPRETED,
        )  # fmt: skip
        if parts > 1:
            triton_attention.join[(count, heads.of_keys)](
                scratch, stats, y, tiles, tables.tokens, heads=heads.of_queries, kv_heads=heads.of_keys, dim=heads.dim,
                GROUP=heads.group, ROWS=rows, DIM=heads.padded_dim, SPLITS=parts,
            )  # fmt: skip


def _rounded(reach: int) -> int:
    """Positions that a tile looks over: few numbers, for each is compiled when it is first seen."""
    rounded = SPLIT
    while rounded < reach:
        rounded *= 8
    return rounded
