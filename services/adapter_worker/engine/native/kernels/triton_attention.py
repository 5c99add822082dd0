"""Attention over a paged cache as Triton kernels: write keys and values, attend in splits, join the splits.

A tile is a few tokens of one sequence: four numbers, its first token in the step, its size, the position of the first
token in the sequence, and the row of the page tables. Sums are float32, and their order is the same in every batch.
"""

import triton
import triton.language as tl


@triton.jit
def write(
    k, v, keys, values, slots, tokens, k_token, k_head, v_token, v_head,
    heads: tl.constexpr, dim: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Copy tokens' keys and values [heads, dim] to their slots of the cache; a token with a negative slot has none."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]  # one for each token and head
    token = row // heads
    head = row % heads
    at = tl.arange(0, DIM)[None, :]
    slot = tl.load(slots + token, mask=token < tokens, other=-1).to(tl.int64)
    mask = (at < dim) & (slot >= 0)
    into = (slot * heads + head) * dim + at
    tl.store(keys + into, tl.load(k + token * k_token + head * k_head + at, mask=mask), mask=mask)
    tl.store(values + into, tl.load(v + token * v_token + head * v_head + at, mask=mask), mask=mask)


@triton.jit
def _scores(query, key, scale, softcap, HAS_CAP: tl.constexpr, WIDEN: tl.constexpr):
    if WIDEN:
        query = query.to(tl.float32)
        key = key.to(tl.float32)
    scores = tl.dot(query, key, input_precision="ieee") * scale
    if HAS_CAP:  # the hyperbolic tangent
        scores = softcap * (2.0 / (1.0 + tl.exp(-2.0 * scores / softcap)) - 1.0)
    return scores


@triton.jit
def _rows_of(tile, kv_head, heads: tl.constexpr, kv_heads: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr):
    """Return a tile's first token and size, and of each row the token in the tile, the head, and whether it has any."""
    count = tl.load(tile + 1)
    row = tl.arange(0, ROWS)
    token = row // GROUP
    head = kv_head * (heads // kv_heads) + row % GROUP
    return tl.load(tile), count, token, head, (token < count) & (row % GROUP < heads // kv_heads)


@triton.jit
def _raised(top, more):
    """Return the larger scores, what to subtract from scores now, and by what the weights before shrink."""
    highest = tl.maximum(top, more)
    shift = tl.where(highest == float("-inf"), 0.0, highest)
    return highest, shift, tl.exp(top - shift)


@triton.jit
def _mean(sums, total):
    """Divide by the weights; rows of padding have none."""
    return sums / tl.where(total > 0.0, total, 1.0)[:, None]


@triton.jit
def attend(
    q, keys, values, y, partial, stats, tiles, tables, tokens, q_token, q_head, width, scale, softcap, window,
    heads: tl.constexpr, kv_heads: tl.constexpr, dim: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    DIM: tl.constexpr, BLOCK: tl.constexpr, SPLIT: tl.constexpr, PAGE: tl.constexpr, HAS_CAP: tl.constexpr,
    IS_WHOLE: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Attend a tile's tokens, for the query heads of one key head, over one split of the positions.

    The whole is written to y [tokens, heads, dim]. Of a split the weighted values are written to `partial`
    [splits, tokens, heads, dim], and their largest score and weight to `stats` [splits, tokens, heads, 2].
    """
    tile = tiles + tl.program_id(0) * 4
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    position = tl.load(tile + 2)
    table = tables + tl.load(tile + 3) * width

    start, count, token, head, is_row = _rows_of(tile, kv_head, heads, kv_heads, GROUP, ROWS)
    at = tl.arange(0, DIM)
    place = position + token
    is_in = is_row[:, None] & (at < dim)[None, :]
    query = tl.load(
        q + (start + token)[:, None] * q_token + head[:, None] * q_head + at[None, :], mask=is_in, other=0.0
    )
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, DIM], tl.float32)
    end = position + count
    first = tl.maximum(position - window + 1, 0)
    for begin in range(0, SPLIT, BLOCK):
        other = split * SPLIT + begin + tl.arange(0, BLOCK)
        if (split * SPLIT + begin < end) & (split * SPLIT + begin + BLOCK > first):
            is_seen = (other < end) & (other >= first)  # others may hold anything
            page = tl.load(table + other // PAGE, mask=is_seen, other=0).to(tl.int64)
            from_cache = ((page * PAGE + other % PAGE) * kv_heads + kv_head) * dim
            key = tl.load(
                keys + from_cache[None, :] + at[:, None], mask=is_seen[None, :] & (at < dim)[:, None], other=0.0
            )
            value = tl.load(
                values + from_cache[:, None] + at[None, :], mask=is_seen[:, None] & (at < dim)[None, :], other=0.0
            )
            scores = _scores(query, key, scale, softcap, HAS_CAP, WIDEN)
            is_visible = is_seen[None, :] & (other[None, :] <= place[:, None])
            is_visible = is_visible & (other[None, :] > place[:, None] - window)
            scores = tl.where(is_visible, scores, float("-inf"))
            top, shift, fade = _raised(top, tl.max(scores, axis=1))
            weights = tl.exp(scores - shift[:, None])
            total = total * fade + tl.sum(weights, axis=1)
            weights = weights.to(value.dtype)
            if WIDEN:
                weights = weights.to(tl.float32)
                value = value.to(tl.float32)
            sums = sums * fade[:, None] + tl.dot(weights, value, input_precision="ieee")
    if IS_WHOLE:
        out = y + (start + token)[:, None] * heads * dim + head[:, None] * dim + at[None, :]
        tl.store(out, _mean(sums, total).to(y.dtype.element_ty), mask=is_in)
    else:
        place_of = (split * tokens + start + token) * heads + head
        tl.store(partial + place_of.to(tl.int64)[:, None] * dim + at[None, :], sums, mask=is_in)
        tl.store(stats + place_of * 2, top, mask=is_row)
        tl.store(stats + place_of * 2 + 1, total, mask=is_row)


@triton.jit
def join(
    partial, stats, y, tiles, tokens,
    heads: tl.constexpr, kv_heads: tl.constexpr, dim: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    DIM: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Join what `attend` wrote of each split for the same tile and key head, in the order of the positions."""
    tile = tiles + tl.program_id(0) * 4
    kv_head = tl.program_id(1)
    start, _, token, head, is_row = _rows_of(tile, kv_head, heads, kv_heads, GROUP, ROWS)
    at = tl.arange(0, DIM)
    is_in = is_row[:, None] & (at < dim)[None, :]
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, DIM], tl.float32)
    for split in range(SPLITS):
        place_of = (split * tokens + start + token) * heads + head
        split_top = tl.load(stats + place_of * 2, mask=is_row, other=float("-inf"))
        split_total = tl.load(stats + place_of * 2 + 1, mask=is_row, other=0.0)
        split_sums = tl.load(partial + place_of.to(tl.int64)[:, None] * dim + at[None, :], mask=is_in, other=0.0)
        top, shift, fade = _raised(top, split_top)
        weight = tl.exp(split_top - shift)
        total = total * fade + split_total * weight
        sums = sums * fade[:, None] + split_sums * weight[:, None]
    out = y + (start + token)[:, None] * heads * dim + head[:, None] * dim + at[None, :]
    tl.store(out, _mean(sums, total).to(y.dtype.element_ty), mask=is_in)
