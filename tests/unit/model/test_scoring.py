import numpy as np
import pytest
import torch

from shared.errors import Invalid
from shared.labels import Label
from shared.model import scoring
from shared.model.base import load_model
from shared.model.scoring import LabelScorer, build_trie
from shared.model.tokens import encode, encode_text, end_id
from shared.prompts import selector_answer, selector_prompt

LABELS = [Label("bank", "cards"), Label("bank", "card"), Label("bank", "accounts"), Label("travel", "trips")]
TEXTS = ["where is my card", "b", "a much longer text about a flight, a hotel and a lost bag on the way to Rome"]


def one_by_one(model, tokenizer, labels, text, max_tokens):
    """Each label in a forward pass of its own: the plain definition that the tree must equal."""
    longest = max(len(encode_text(tokenizer, selector_answer(label))) for label in labels)
    prompt = encode(tokenizer, selector_prompt(text, labels), max_tokens - longest)
    scores = []
    for label in labels:
        answer = [*encode_text(tokenizer, selector_answer(label)), end_id(tokenizer)]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].float().log_softmax(-1)
        scores.append(sum(logits[len(prompt) - 1 + at, token].item() for at, token in enumerate(answer)))
    return torch.tensor(scores).log_softmax(-1).numpy()


def test_a_batch_scores_as_each_label_alone_does(tiny_model, tiny_tokenizer):
    scores = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 300).score(TEXTS)

    expected = np.stack([one_by_one(tiny_model, tiny_tokenizer, LABELS, text, 300) for text in TEXTS])
    assert np.ptp(expected) > 0.1  # labels that all score alike would prove nothing
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.model
def test_the_real_model_scores_a_batch_as_each_label_alone(real_folder, real_tokenizer):
    model = load_model(real_folder, "float32", device="cpu")

    scores = LabelScorer(model, real_tokenizer, LABELS, 300).score(TEXTS[:2])

    expected = np.stack([one_by_one(model, real_tokenizer, LABELS, text, 300) for text in TEXTS[:2]])
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_probabilities_over_the_labels_sum_to_one(tiny_model, tiny_tokenizer):
    scores = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 300).score(TEXTS)

    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-5)


def test_the_neighbours_in_a_batch_do_not_change_a_score(tiny_model, tiny_tokenizer):
    scorer = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 300)

    np.testing.assert_allclose(scorer.score([TEXTS[1]])[0], scorer.score(TEXTS)[1], atol=1e-5)


def test_a_reduced_precision_scores_nearly_the_same(tiny_model, tiny_tokenizer):
    whole = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 512).score(["a text", "another one"])
    reduced = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 512, "bfloat16").score(["a text", "another one"])
    assert reduced.dtype == whole.dtype
    assert 0 < abs(reduced - whole).max() < 0.5


def test_a_batch_scored_in_parts_keeps_its_order(tiny_model, tiny_tokenizer, monkeypatch):
    scorer = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 300)
    whole = scorer.score(TEXTS)

    monkeypatch.setattr(scoring, "MAX_LOGITS", 1)  # one row a pass
    np.testing.assert_allclose(scorer.score(TEXTS), whole, atol=1e-5)


def test_a_long_input_is_shortened_and_still_scored(tiny_model, tiny_tokenizer):
    scorer = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 250)

    assert len(scorer.prompt_ids("x" * 5000)) < 250
    assert np.isfinite(scorer.score(["x" * 5000])).all()


def test_no_texts_give_no_rows(tiny_model, tiny_tokenizer):
    assert LabelScorer(tiny_model, tiny_tokenizer, LABELS, 300).score([]).shape == (0, len(LABELS))


def test_a_label_list_that_does_not_fit_is_refused_at_once(tiny_model, tiny_tokenizer):
    with pytest.raises(Invalid, match="prompt without its input"):
        LabelScorer(tiny_model, tiny_tokenizer, LABELS, 100)


def test_a_scorer_without_labels_is_refused(tiny_model, tiny_tokenizer):
    with pytest.raises(Invalid, match="at least one label"):
        LabelScorer(tiny_model, tiny_tokenizer, [], 100)


def test_labels_share_the_nodes_of_their_common_start():
    trie = build_trie([[5, 6, 7], [5, 6], [5, 8]], end=2)

    assert trie.tokens == [5, 6, 7, 8]
    assert trie.parents == [-1, 0, 1, 0]
    assert trie.edges == [(-1, 5), (0, 6), (1, 7), (2, 2), (1, 2), (0, 8), (3, 2)]
    assert trie.paths == [[0, 1, 2, 3], [0, 1, 4], [0, 5, 6]]
