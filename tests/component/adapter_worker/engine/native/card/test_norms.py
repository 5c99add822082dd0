"""Norms are replaced where the kernel gives what they give, whichever family they are of."""

import pytest
import torch
from torch import nn

pytest.importorskip("triton", reason="the kernels for a card need Triton")

from services.adapter_worker.engine.native.card.norms import replace_norms
from tests.support import families


@pytest.mark.parametrize("name", ["llama", "gemma", "olmo2", "qwen3"])
def test_a_familys_norms_are_replaced_and_answer_as_before(name):
    model = families.build(name, 300)
    norms = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
    inputs = {norm: torch.randn(1, 5, 3 * len(norm.weight))[..., : len(norm.weight)] for norm in norms}
    of_heads = {norm: torch.randn(1, 5, 3, len(norm.weight)) for norm in norms if name == "qwen3"}
    inputs |= {norm: x for norm, x in of_heads.items() if len(norm.weight) < 64}
    before = {norm: norm(x) for norm, x in inputs.items()}
    assert replace_norms(model) == len(norms) > 0
    with torch.no_grad():
        for norm, x in inputs.items():
            assert torch.allclose(norm(x), before[norm], rtol=1e-5, atol=1e-6)


class OddRMSNorm(nn.Module):
    """A norm by its name alone."""

    def __init__(self):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(16)), 1e-6

    def forward(self, x):
        return x * self.weight / x.abs().mean(-1, keepdim=True)


def test_a_norm_that_answers_otherwise_stays_as_it_is():
    norm = OddRMSNorm()
    assert replace_norms(norm) == 0
    x = torch.randn(1, 2, 16)
    assert torch.equal(norm(x), OddRMSNorm()(x))
