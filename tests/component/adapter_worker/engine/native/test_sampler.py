"""Each row is sampled by its own rules, whatever stands beside it."""

import random

import pytest
import torch

from services.adapter_worker.engine.native.sampler import (
    Changes,
    SamplingParams,
    best_logprobs,
    pick_tokens,
    plan_draws,
    scores_of,
)

LOGITS = torch.tensor([0.5, 3.0, 1.0, 2.5, -1.0])


def sample_tokens(logits, params):
    return pick_tokens(logits, plan_draws(params)).tolist()


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
    assert sample_tokens(broken, [SamplingParams(0.0, 1.0, 0, 0.0)] * 2) == [1, -1]
    assert sample_tokens(broken, [SamplingParams(1.0, 1.0, 0, 0.5)] * 2)[1] == -1


def test_changes_reach_their_own_row_alone_and_none_cost_nothing():
    assert Changes.of([{}, {}, {}]) is None
    given = LOGITS.expand(3, -1).clone()
    mine = Changes.of([{}, {1: -2.0, 3: 0.5}, {0: 100.0}]).added_to(given)
    assert torch.equal(given, LOGITS.expand(3, -1))
    assert torch.equal(mine[0], LOGITS)
    assert torch.equal(mine[1], torch.tensor([0.5, 1.0, 1.0, 3.0, -1.0]))
    assert sample_tokens(mine, [SamplingParams(0.0, 1.0, 0, 0.0)] * 3) == [1, 3, 0]


def test_changes_come_before_temperature_and_truncation():
    mine = Changes.of([{1: -100.0}] * 4000).added_to(LOGITS.expand(4000, -1))
    chance = random.Random(3)
    tokens = sample_tokens(mine, [SamplingParams(2.0, 1.0, 2, chance.random()) for _ in range(4000)])
    shares = torch.bincount(torch.tensor(tokens), minlength=5) / 4000
    two = (LOGITS[[2, 3]] / 2).softmax(-1)
    assert torch.allclose(shares, torch.tensor([0, 0, two[0], two[1], 0]), atol=0.03)


def test_alternatives_are_as_many_as_each_row_asks_for_best_first():
    expected = LOGITS.log_softmax(-1)
    found = best_logprobs(LOGITS.expand(4, -1), torch.tensor([4, 2, 1, 0]), torch.tensor([0, 2, 3]), 9)
    first, second, third = scores_of(found, [0, 2, 9])
    assert (first.logprob, first.top) == (pytest.approx(expected[4].item()), ())
    assert [token for token, _ in second.top] == [1, 3]
    assert [value for _, value in second.top] == pytest.approx(expected[[1, 3]].tolist())
    assert [token for token, _ in third.top] == [1, 3, 2, 0, 4]  # no more than the vocabulary has


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_a_cut_of_few_tokens_is_that_of_the_sorted_whole(top_p):
    torch.manual_seed(2)
    logits, chance = torch.randn(40, 3000) * 3, random.Random(4)
    params = [SamplingParams(1.3, top_p, chance.choice([1, 5, 900, 1024]), chance.random()) for _ in range(40)]
    few = sample_tokens(logits, params)
    (draw,) = plan_draws(params)
    assert draw.most == max(p.top_k for p in params)
    assert few == pick_tokens(logits, [draw._replace(most=0)]).tolist()


def test_rows_that_are_cut_by_probability_alone_do_not_make_the_others_sort_all():
    params = [SamplingParams(1.0, 0.9, top_k, 0.5) for top_k in (0, 3, 2000)]
    few, whole = plan_draws(params)
    assert (few.rows.tolist(), few.most) == ([1], 3)
    assert (whole.rows.tolist(), whole.most) == ([0, 2], 0)
