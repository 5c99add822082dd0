"""The compiled attention gives what torch gives, however the tokens of a step are cut into pieces."""

import pytest
import torch
from transformers import LlamaConfig

from services.adapter_worker.engine.native.attention import AttentionParams, PagedCache, Step, TokenSpan
from services.adapter_worker.engine.native.kv_cache import PAGE

# Tokens of each sequence in each step: alone, a few, more than a tile holds, across pages.
STEPS = [[1, 5, 70], [1, 1, 3], [40, 16, 17], [2, 1, 100]]
PAGES = 12
CPU = torch.device("cpu")


def caches(kit, dtype, heads, kv_heads):
    config = LlamaConfig(
        num_attention_heads=heads, num_key_value_heads=kv_heads, hidden_size=heads * 48, num_hidden_layers=1
    )
    compiled, plain = (PagedCache(config, PAGES * len(STEPS[0]), dtype, CPU) for _ in range(2))
    for cache in (compiled, plain):
        for tensor in cache._keys + cache._values:
            tensor.fill_(torch.nan)  # what nobody has written, nobody may read
    compiled.use_kernel(kit.kernels)
    assert compiled._kernel
    return compiled, plain


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (9, 3), (8, 1)])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (24, None), (None, 5.0)])
def test_pieces_of_all_sizes_attend_as_in_torch(kit, dtype, error, heads, kv_heads, window, softcap):
    torch.manual_seed(3)
    how = AttentionParams(0.2, window, softcap)
    both = caches(kit, dtype, heads, kv_heads)
    tables = torch.randperm(PAGES * len(STEPS[0]), dtype=torch.int32).view(-1, PAGES)
    positions = [0] * len(STEPS[0])
    for sizes in STEPS:
        pieces, total = [], sum(sizes)
        for row, size in enumerate(sizes):
            pieces.append(TokenSpan(sum(sizes[:row]), size, row, positions[row]))
            positions[row] += size
        q, k, v = (torch.randn(1, count, total, 48, dtype=dtype) for count in (heads, kv_heads, kv_heads))
        answers = []
        for cache in both:
            cache.step = Step(pieces, tables, CPU, cache.long)
            answers.append(cache.attend(0, q, k, v, how).float())
        assert max(positions) <= PAGES * PAGE
        assert torch.allclose(*answers, atol=error, rtol=error)
