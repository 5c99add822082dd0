"""The kernels that attend on a card, interpreted on a CPU, give what torch gives."""

import pytest
import torch

pytest.importorskip("triton", reason="the kernels for a card need Triton")

from transformers import LlamaConfig

from services.adapter_worker.engine.native.attention import AttentionParams, PagedCache, Step, TokenSpan
from services.adapter_worker.engine.native.card.launching import Workspace
from services.adapter_worker.engine.native.card.paged_attention import AttentionTables, CardAttention, Heads
from services.adapter_worker.engine.native.kv_cache import PAGE

CPU = torch.device("cpu")
PAGES, DIM = 8, 24
# Tokens of each sequence in each step: alone, a few, more than a tile holds, across pages and splits.
STEPS = [[1, 5, 40], [1, 1, 18], [33, 1, 2]]
FAMILIES = [
    (2, 2, None, None, torch.float32),
    (14, 2, None, None, torch.float32),
    (8, 1, 24, None, torch.float32),
    (6, 2, None, 5.0, torch.float32),
    (14, 2, 20, 3.0, torch.bfloat16),
]


class Both:
    """One cache for torch and one for the kernels; what nobody has written is not a number."""

    def __init__(self, heads, kv_heads, dtype):
        config = LlamaConfig(
            num_attention_heads=heads, num_key_value_heads=kv_heads, hidden_size=heads * DIM, num_hidden_layers=1,
            head_dim=DIM,
        )  # fmt: skip
        self.plain, self.card = (PagedCache(config, PAGES * 3, dtype, CPU) for _ in range(2))
        for cache in (self.plain, self.card):
            for tensor in cache._keys + cache._values:
                tensor.fill_(torch.nan)
        self.attention = CardAttention(Heads(heads, kv_heads, DIM), dtype, Workspace(CPU), split=32)
        self.card.use_card(self.attention)
        self.tables = torch.randperm(PAGES * 3, dtype=torch.int32).view(3, PAGES)

    def attend(self, spans, tensors, params):
        self.plain.step = Step(spans, self.tables, CPU)
        self.attention.begin(tables_of(self.attention, spans, self.tables))
        return [cache.attend(0, *tensors, params).float() for cache in (self.plain, self.card)]


def tables_of(attention, spans, page_tables, padding=0):
    short, long = (torch.tensor(tiles, dtype=torch.int32).flatten() for tiles in attention.tiles(spans))
    slots = Step(spans, page_tables, CPU).slot_mapping.int()
    reaches = [[s.position + s.size for s in spans if (s.size >= 32) == is_long] for is_long in (False, True)]
    return AttentionTables(
        torch.cat([slots, torch.full((padding,), -1, dtype=torch.int32)]), short, long, page_tables.flatten(),
        tokens=len(slots) + padding, width=page_tables.shape[1],
        reach=(max(reaches[0], default=0), max(reaches[1], default=0)),
    )  # fmt: skip


def spans_of(sizes, positions):
    return [TokenSpan(sum(sizes[:row]), size, row, positions[row]) for row, size in enumerate(sizes)]


def random_inputs(heads, kv_heads, tokens, dtype):
    """As models give them: heads before tokens, and values that are a view."""
    q, k = (torch.randn(1, count, tokens, DIM, dtype=dtype) for count in (heads, kv_heads))
    return q, k, torch.randn(1, tokens, kv_heads, DIM, dtype=dtype).transpose(1, 2)


@pytest.mark.parametrize(("heads", "kv_heads", "window", "softcap", "dtype"), FAMILIES, ids=str)
def test_spans_of_all_sizes_attend_as_in_torch(heads, kv_heads, window, softcap, dtype):
    torch.manual_seed(3)
    both, positions = Both(heads, kv_heads, dtype), [0, 0, 0]
    error = 1e-5 if dtype == torch.float32 else 2e-2
    for sizes in STEPS:
        spans = spans_of(sizes, positions)
        positions = [position + size for position, size in zip(positions, sizes, strict=True)]
        inputs = random_inputs(heads, kv_heads, sum(sizes), dtype)
        plain, card = both.attend(spans, inputs, AttentionParams(0.2, window, softcap))
        assert torch.allclose(plain, card, atol=error, rtol=error)
    assert max(positions) <= PAGES * PAGE


def test_a_token_attends_the_same_to_the_last_bit_alone_in_company_and_beside_padding():
    torch.manual_seed(4)
    both, params = Both(6, 2, torch.float32), AttentionParams(0.2, None, None)
    both.attend(spans_of([40, 70, 3], [0, 0, 0]), random_inputs(6, 2, 113, torch.float32), params)
    spans = spans_of([1, 1, 1], [40, 70, 3])
    q, k, v = random_inputs(6, 2, 3, torch.float32)
    _, together = both.attend(spans, (q, k, v), params)
    alone = [TokenSpan(0, 1, 1, 70)]
    _, single = both.attend(alone, tuple(tensor[:, :, 1:2] for tensor in (q, k, v)), params)
    assert torch.equal(single[0, 0], together[0, 1])
    untouched = [tensor.clone() for tensor in both.card._keys + both.card._values]
    both.attention.begin(tables_of(both.attention, spans, both.tables, padding=2))
    padded = both.card.attend(0, *(torch.cat([t, torch.randn_like(t[:, :, :2])], dim=2) for t in (q, k, v)), params)
    assert torch.equal(padded[0, :3], together[0])
    assert all(map(same, untouched, both.card._keys + both.card._values))


def same(one, other):
    return torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))
