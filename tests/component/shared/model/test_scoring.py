import numpy as np
import pytest
import torch

from shared.contracts.labels import Label
from shared.contracts.prompts import selector_answer, selector_prompt
from shared.errors import Invalid
from shared.model import scoring
from shared.model.base import load_model
from shared.model.hardware import CARD_WIDTH
from shared.model.scoring import CheckedScorer, LabelScorer, build_trie
from shared.model.tokens import encode, encode_text, end_id

LABELS = [Label("bank", "cards"), Label("bank", "card"), Label("bank", "accounts"), Label("travel", "trips")]
TEXTS = ["where is my card", "b", "a much longer text about a flight, a hotel and a lost bag on the way to Rome"]


def one_by_one(model, tokenizer, labels, text, max_tokens):
    """Each label in a forward pass of its own, and at each of its tokens a softmax over what other labels could say."""
    answers = [[*encode_text(tokenizer, selector_answer(label)), end_id(tokenizer)] for label in labels]
    prompt = encode(tokenizer, selector_prompt(text, labels), max_tokens - max(map(len, answers)) + 1)
    scores = []
    for answer in answers:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].float()
        score = 0.0
        for at, token in enumerate(answer):
            allowed = sorted({other[at] for other in answers if other[:at] == answer[:at]})
            score += logits[len(prompt) - 1 + at, allowed].log_softmax(-1)[allowed.index(token)].item()
        scores.append(score)
    return np.array(scores)


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


def test_a_batch_that_is_widened_for_a_card_scores_alike(tiny_model, tiny_tokenizer, monkeypatch):
    plain = LabelScorer(tiny_model, tiny_tokenizer, LABELS, 300).score(TEXTS)
    monkeypatch.setattr(scoring, "width_step", lambda _device: CARD_WIDTH)

    np.testing.assert_allclose(LabelScorer(tiny_model, tiny_tokenizer, LABELS, 300).score(TEXTS), plain, atol=1e-5)


class Fixed:
    """A scorer that says what it was told, and remembers what it was asked."""

    def __init__(self, rows):
        self.labels = LABELS[:2]
        self.rows = rows
        self.asked = []

    def score(self, texts):
        self.asked.append(texts)
        return np.log(np.array([self.rows[text] for text in texts], dtype=np.float32))


def test_near_ties_of_the_quick_scorer_are_scored_exactly():
    quick = Fixed({"clear": (0.9, 0.1), "near": (0.52, 0.48), "clear too": (0.2, 0.8)})
    exact = Fixed({"near": (0.45, 0.55)})

    scores = CheckedScorer(quick, exact).score(["clear", "near", "clear too"])

    np.testing.assert_allclose(np.exp(scores), [(0.9, 0.1), (0.45, 0.55), (0.2, 0.8)], rtol=1e-5)
    assert exact.asked == [["near"]]


def test_reduced_precision_scores_nearly_the_same(tiny_folder, tiny_tokenizer):
    whole, reduced = (
        LabelScorer(load_model(tiny_folder, dtype, device="cpu"), tiny_tokenizer, LABELS, 300).score(TEXTS)
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < abs(reduced - whole).max() < 0.5
    assert (reduced.argmax(axis=1) == whole.argmax(axis=1)).all()


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


def test_one_label_is_certain(tiny_model, tiny_tokenizer):
    assert LabelScorer(tiny_model, tiny_tokenizer, LABELS[:1], 300).score(TEXTS).tolist() == [[0.0]] * 3


def test_the_tree_is_read_as_far_as_the_last_choice():
    trie = build_trie([[5, 6, 7, 9], [5, 6], [5, 8, 4]], end=2)

    assert trie.tokens == [5, 6]
    assert trie.parents == [-1, 0]
    assert trie.branches == [(0, [6, 8]), (1, [7, 2])]
    assert trie.paths == [[0, 2], [0, 3], [1]]


def test_a_tree_that_parts_at_once_needs_no_reading():
    trie = build_trie([[5, 6], [7, 6]], end=2)

    assert (trie.tokens, trie.branches, trie.paths) == ([], [(-1, [5, 7])], [[0], [1]])
