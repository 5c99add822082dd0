"""The engine on a card's path, its kernels interpreted on a CPU, answers as on a CPU's."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

pytest.importorskip("triton", reason="the kernels for a card need Triton")

from shared.contracts.constraints import Constraint
from tests.support.engine_kit import ADAPTERS, greedy, ignore

NAMES = ["dora", "by module"]


def requests_of(kit):
    sampled = {"temperature": 1.0, "seed": 5, "n": 2, "top_logprobs": 3, "logprobs": True}
    bound = {"constraint": Constraint(choices=("yes", "no")), "presence_penalty": 0.5}
    return [
        *(greedy(kit, name or "base", name, max_new_tokens=3) for name in (None, *NAMES)),
        greedy(kit, "more tokens than a small tile has", "dora", max_new_tokens=2, **sampled),
        greedy(kit, "yes or no", None, max_new_tokens=4, **bound),
    ]


def answers(kit, **options):
    """All answers of requests that run together."""
    engine = kit.engine(kernels=None, **options)
    for name in NAMES:
        engine.load_adapter(name, kit.adapter(name, **ADAPTERS[name]))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda request: engine.generate(request, ignore), requests_of(kit)))
    engine.close()
    return found


def test_mixed_requests_of_every_kind_are_answered_alike_on_both_paths(kit):
    plain, card = answers(kit), answers(kit, on_card=True)
    for one, other in zip(plain, card, strict=True):
        assert [choice.token_ids for choice in one.choices] == [choice.token_ids for choice in other.choices]
        for mine, theirs in zip(one.choices, other.choices, strict=True):
            if mine.logprobs:
                assert mine.logprobs.logprobs == pytest.approx(theirs.logprobs.logprobs, abs=1e-4)
                assert [[t.token_id for t in top] for top in mine.logprobs.top] == [
                    [t.token_id for t in top] for top in theirs.logprobs.top
                ]


def test_a_step_that_is_padded_gives_the_same_logits(kit):
    engine = kit.engine(kernels=None, on_card=True)
    runner = engine._runner
    with torch.inference_mode():
        plain = runner._compute([runner._canary])
        runner._card.inputs.least_tokens = len(runner._canary.ids) + 5
        padded = runner._compute([runner._canary])
    engine.close()
    assert torch.allclose(plain, padded, atol=1e-5)
