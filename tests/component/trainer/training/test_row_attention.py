"""Packed rows attend within themselves: as under a dense mask, and as rows that are not packed."""

import pytest
import torch
from torch.nn.attention import varlen

from services.trainer.training import row_attention
from services.trainer.training.batches import collate, pack
from services.trainer.training.row_attention import attend, can_attend_by_rows
from tests.support import families
from tests.support.training_steps import EXAMPLES, assert_same_step, learner, step_of

OFTEN = ("llama", "mistral", "gemma2", "gemma3_text", "smollm3")
"""Grouped heads; a window in all layers; a cap on scores; a window in some layers; layers without positions."""
LENGTHS = (5, 1, 30)


@pytest.fixture(
    params=[pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in families.OPTIONS]
)
def family(request):
    return request.param


def attention_of(model):
    return model.config.get_text_config()._attn_implementation


def test_packed_rows_are_learnt_as_under_a_dense_mask_and_as_padded_ones(family):
    targets = ("o_proj",) if family in families.EXPERTS else "all-linear"
    model = learner(families.build(family, 64).requires_grad_(False), packing=True, targets=targets).eval()
    assert (attention_of(model) == row_attention.NAME) == (family != "gemma2")
    by_rows = step_of(model, pack(EXAMPLES))
    model.set_attn_implementation("eager")
    assert_same_step(by_rows, step_of(model, pack(EXAMPLES)))
    if family not in families.EXPERTS:
        assert_same_step(by_rows, step_of(model, collate(EXAMPLES)))


def test_recomputed_layers_know_the_rows_too():
    model = learner(families.build("mistral", 64).requires_grad_(False), packing=True)
    whole = step_of(model, pack(EXAMPLES))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_same_step(step_of(model, pack(EXAMPLES)), whole)


def test_a_cap_on_scores_keeps_the_dense_mask():
    capped = families.build("gemma2", 64)
    assert not can_attend_by_rows(capped)
    capped.config.attn_logit_softcapping = None
    assert can_attend_by_rows(capped)


def states(*, device="cpu", dtype=torch.float32):
    """Queries, keys and values of packed rows, four heads in two groups."""
    torch.manual_seed(0)
    return [
        torch.randn(1, heads, sum(LENGTHS), 16, device=device, dtype=dtype, requires_grad=True) for heads in (4, 2, 2)
    ]


def attended(found, window):
    ends = torch.tensor([0, 5, 6, 36], dtype=torch.int32, device=found[0].device)
    output, _ = attend(None, *found, None, row_lengths=LENGTHS, row_ends=ends, scaling=0.3, sliding_window=window)
    return output


def stand_in(query, key, value, ends, key_ends, longest, longest_key, *, scale, window_size, enable_gqa):
    """What the documentation of `varlen_attn` says, row by row; tokens come first, a window is (before, after)."""
    assert (ends.dtype, longest, longest_key) == (torch.int32, max(LENGTHS), max(LENGTHS))
    assert (ends is key_ends, enable_gqa) == (True, True)
    before, after = window_size
    parts = []
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        rows = [each[first:last].transpose(0, 1) for each in (query, key, value)]
        places = torch.arange(last - first)
        distance = places[:, None] - places
        allowed = (distance >= -after) & ((distance <= before) | (before < 0))
        found = torch.nn.functional.scaled_dot_product_attention(*rows, attn_mask=allowed, scale=scale, enable_gqa=True)
        parts.append(found.transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("window", [None, 4])
def test_the_kernel_of_cards_is_asked_for_the_same(monkeypatch, window):
    found = states()
    expected = attended(found, window)
    expected_gradients = torch.autograd.grad(expected.square().sum(), found)
    monkeypatch.setattr(row_attention, "_kernel_takes", lambda query, value: True)
    monkeypatch.setattr(row_attention, "varlen_attn", stand_in)
    output = attended(found, window)
    torch.testing.assert_close(output, expected)
    for gradient, other in zip(torch.autograd.grad(output.square().sum(), found), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 4])
def test_the_kernel_of_cards_takes_these_arguments(monkeypatch, window):
    """On tensors without memory torch checks the call and its backward pass, and computes nothing."""
    assert row_attention.varlen_attn is varlen.varlen_attn
    monkeypatch.setattr(row_attention, "_kernel_takes", lambda query, value: True)
    found = states(device="meta", dtype=torch.bfloat16)
    output = attended(found, window)
    assert (output.shape, output.dtype) == ((1, sum(LENGTHS), 4, 16), torch.bfloat16)
    assert [g.shape for g in torch.autograd.grad(output.sum(), found)] == [each.shape for each in found]


def test_a_processor_never_asks_the_kernel_of_cards():
    query, _, value = states(dtype=torch.bfloat16)
    assert not row_attention._kernel_takes(query, value)
