"""Float32 arithmetic on bfloat16 weights, and what it takes of memory."""

import numpy as np
import pytest
import torch

from shared.contracts.labels import Label
from shared.model.base import load_model
from shared.model.head import HeadScorer, load_classifier
from shared.model.precision import float32_weights
from shared.model.scoring import LabelScorer

LABELS = [Label("bank", "cards"), Label("bank", "accounts"), Label("travel", "trips")]
TEXTS = ["where is my card", "b", "a longer text about a flight, a hotel and a lost bag"]


def classifier(folder):
    model = load_classifier(folder, len(LABELS), "cpu")
    torch.manual_seed(0)
    torch.nn.init.normal_(model.score.weight)
    return model


@pytest.fixture(params=["names", "head"])
def kind_and_model(request, tiny_folder):
    if request.param == "head":
        return HeadScorer, classifier(tiny_folder)
    return LabelScorer, load_model(tiny_folder, "float32", device="cpu")


def test_float32_arithmetic_scores_as_a_float32_model_of_the_same_weights(kind_and_model, tiny_tokenizer):
    kind, model = kind_and_model
    rounded = kind(model.to(torch.bfloat16), tiny_tokenizer, LABELS, 300)
    reduced = rounded.score(TEXTS)
    found = kind(model, tiny_tokenizer, LABELS, 300, in_float32=True).score(TEXTS)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    np.testing.assert_array_equal(rounded.score(TEXTS), reduced)

    expected = kind(model.to(torch.float32), tiny_tokenizer, LABELS, 300).score(TEXTS)

    assert abs(found - expected).max() < abs(reduced - expected).max() / 10
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_a_pass_that_fails_leaves_the_weights_as_they_were(tiny_folder):
    model = load_model(tiny_folder, "bfloat16", device="cpu")
    before = [weight.data_ptr() for weight in model.parameters()]

    with pytest.raises(IndexError), float32_weights(model):
        model(torch.tensor([[model.config.vocab_size]]))
    model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), float32_weights(model):
        model(torch.tensor([[1, 2]]))

    assert [weight.data_ptr() for weight in model.parameters()] == before
