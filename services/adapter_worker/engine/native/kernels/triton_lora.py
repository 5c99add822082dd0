"""Adapters of the rows of a step as two Triton kernels: A into few numbers (shrink), these times B into y (expand).

A tile is a few rows of one adapter: three numbers, its first row, its size, and the first slot of its adapter. `sizes`
[slots] holds how many slots an adapter has in this group of layers, by its first one. Sums are float32, slot by slot.
"""

import triton
import triton.language as tl


@triton.jit
def shrink(
    x, a, low, tiles, sizes, rows, x_row,
    INTO: tl.constexpr, PARTS: tl.constexpr, RANK: tl.constexpr, SLOTS: tl.constexpr, ROWS: tl.constexpr,
    OUTS: tl.constexpr, BLOCK: tl.constexpr, PIECE: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Multiply a tile by one slot of a [slots, PARTS * RANK, INTO], over one piece of INTO.

    The products go to low [pieces, rows, PARTS, SLOTS * RANK].
    """
    tile = tiles + tl.program_id(0) * 3
    slot = tl.program_id(1)
    piece = tl.program_id(2)
    start = tl.load(tile)
    count = tl.load(tile + 1)
    first = tl.load(tile + 2)
    if slot < tl.load(sizes + first):
        row = tl.arange(0, ROWS)
        out = tl.arange(0, OUTS)
        sums = tl.zeros([ROWS, OUTS], tl.float32)
        a_row = ((first + slot).to(tl.int64) * (PARTS * RANK) + out) * INTO
        for begin in range(0, PIECE, BLOCK):
            at = piece * PIECE + begin + tl.arange(0, BLOCK)
            read = tl.load(
                x + (start + row)[:, None] * x_row + at[None, :],
                mask=(row < count)[:, None] & (at < INTO)[None, :],
                other=0.0,
            )
            weight = tl.load(
                a + a_row[None, :] + at[:, None],
                mask=(out < PARTS * RANK)[None, :] & (at < INTO)[:, None],
                other=0.0,
            )
            if WIDEN:
                read = read.to(tl.float32)
                weight = weight.to(tl.float32)
            sums += tl.dot(read, weight, input_precision="ieee")
        into = ((piece * rows + start + row)[:, None] * PARTS + (out // RANK)[None, :]) * (SLOTS * RANK)
        into += (slot * RANK + out % RANK)[None, :]
        tl.store(low + into, sums, mask=(row < count)[:, None] & (out < PARTS * RANK)[None, :])


@triton.jit
def expand(
    low, b, y, tiles, sizes, blocks, gains, rows, y_row,
    OUTS: tl.constexpr, PARTS: tl.constexpr, RANK: tl.constexpr, SLOTS: tl.constexpr, PIECES: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, RANKS: tl.constexpr, HAS_GAINS: tl.constexpr,
):  # fmt: skip
    """Add a tile's `low` times b [slots, RANK, OUTS] to one block of columns of y [rows, OUTS].

    `blocks` holds for each block of columns the layer that it is of, its first column and the end of the layer; `gains`
    [slots, 2, OUTS] what DoRA multiplies y by before, and adds to it, by an adapter's first slot.
    """
    tile = tiles + tl.program_id(0) * 3
    block = blocks + tl.program_id(1) * 3
    start = tl.load(tile)
    count = tl.load(tile + 1)
    first = tl.load(tile + 2)
    size = tl.load(sizes + first)
    if size > 0:
        part = tl.load(block)
        column = tl.load(block + 1) + tl.arange(0, COLUMNS)
        is_column = column < tl.load(block + 2)
        row = tl.arange(0, ROWS)
        is_row = row < count
        sums = tl.zeros([ROWS, COLUMNS], tl.float32)
        for begin in range(0, SLOTS * RANK, RANKS):
            rank = begin + tl.arange(0, RANKS)
            is_rank = rank < size * RANK
            lows = tl.zeros([ROWS, RANKS], tl.float32)
            for piece in range(PIECES):
                at = ((piece * rows + start + row)[:, None] * PARTS + part) * (SLOTS * RANK) + rank[None, :]
                lows += tl.load(low + at, mask=is_row[:, None] & is_rank[None, :], other=0.0)
            weight = tl.load(
                b + (first.to(tl.int64) * RANK + rank)[:, None] * OUTS + column[None, :],
                mask=is_rank[:, None] & is_column[None, :],
                other=0.0,
            ).to(tl.float32)
            sums += tl.dot(lows, weight, input_precision="ieee")
        mask = is_row[:, None] & is_column[None, :]
        into = y + (start + row)[:, None] * y_row + column[None, :]
        product = tl.load(into, mask=mask, other=0.0).to(tl.float32)
        if HAS_GAINS:
            gain = gains + first.to(tl.int64) * 2 * OUTS + column
            product = product * tl.load(gain, mask=is_column, other=1.0)[None, :]
            product += tl.load(gain + OUTS, mask=is_column, other=0.0)[None, :]
        tl.store(into, (product + sums).to(y.dtype.element_ty), mask=mask)
