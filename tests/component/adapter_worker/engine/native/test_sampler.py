"""Each row is sampled by its own rules, whatever stands beside it."""

import random

import pytest
import torch

from services.adapter_worker.engine.native.sampler import SamplingParams, sample_tokens

LOGITS = torch.tensor([0.5, 3.0, 1.0, 2.5, -1.0])


def frequencies(draw, count=4000):
    chance = random.Random(3)
    draws = [SamplingParams(draw.temperature, draw.top_p, draw.top_k, chance.random()) for _ in range(count)]
    tokens = sample_tokens(LOGITS.expand(count, -1), draws)
    return torch.bincount(torch.tensor(tokens), minlength=5) / count


def test_zero_temperature_takes_the_best():
    assert sample_tokens(LOGITS[None], [SamplingParams(0.0, 1.0, 0, 0.99)]) == [1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature):
    expected = (LOGITS / temperature).softmax(-1)
    assert torch.allclose(frequencies(SamplingParams(temperature, 1.0, 0, 0.0)), expected, atol=0.03)


def test_top_k_keeps_the_best_k():
    assert frequencies(SamplingParams(5.0, 1.0, 2, 0.0)).nonzero().flatten().tolist() == [1, 3]


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    # 0.53, 0.32, 0.07, ...: the two best reach 0.8
    assert frequencies(SamplingParams(1.0, 0.8, 0, 0.0)).nonzero().flatten().tolist() == [1, 3]
    assert frequencies(SamplingParams(1.0, 0.0, 0, 0.0)).nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize(("top_k", "ends"), [(0, [0, 4]), (5, [1, 4])])  # only a cut needs the order of likelihood
def test_the_ends_of_the_random_stream_are_safe(top_k, ends):
    assert (
        sample_tokens(LOGITS.expand(2, -1), [SamplingParams(1.0, 1.0, top_k, at) for at in (0.0, 1 - 2**-53)]) == ends
    )


def test_neighbours_change_nothing():
    mine = SamplingParams(1.0, 0.9, 3, 0.42)
    alone = sample_tokens(LOGITS[None], [mine])
    crowd = sample_tokens(
        torch.stack([LOGITS * 3, LOGITS, -LOGITS]),
        [SamplingParams(0.0, 1.0, 0, 0.1), mine, SamplingParams(2.0, 0.5, 1, 0.9)],
    )
    assert crowd[1] == alone[0]


def test_a_row_that_is_not_finite_gets_no_token():
    broken = torch.stack([LOGITS, torch.full((5,), torch.nan)])
    assert sample_tokens(broken, [SamplingParams(0.0, 1.0, 0, 0.0)] * 2) == [1, None]
    assert sample_tokens(broken, [SamplingParams(1.0, 1.0, 0, 0.5)] * 2)[1] is None
