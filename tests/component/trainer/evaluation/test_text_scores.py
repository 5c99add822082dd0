import random
import sys

import pytest

from services.trainer.evaluation.text_scores import BertScore, RougeL, text_scorer
from shared.errors import Invalid
from tests.support.tiny_encoder import ENCODER, save_tiny_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def test_the_words_of_every_script_count():
    rouge = RougeL()

    assert rouge.score(["市值加权"], ["市值加权"]) == [1]
    assert rouge.score(["市值"], ["市值加权"]) == [pytest.approx(2 / 3)]
    assert rouge.tokenize("Für 3 ETFs: 市值 ひと.") == ["für", "3", "etfs", "市", "值", "ひ", "と"]


def test_a_word_keeps_its_combining_marks():
    rouge = RougeL()

    assert rouge.tokenize("किताब की, पढ़ो") == ["किताब", "की", "पढ़ो"]
    assert rouge.tokenize("ที่นี่") == ["ที่", "นี่"]
    assert rouge.tokenize("cafe\u0301 \u0301") == ["cafe\u0301"]
    assert rouge.score(["की", "किताब"], ["का", "किताब"]) == [0, 1]


def test_texts_without_words_are_right_where_they_are_the_same():
    answers, expected = ["👍", "👍", " :-) ", "👍", "ok"], ["👍", "👎", ":-)", "ok", "👍"]

    assert RougeL().score(answers, expected) == [1, 0, 1, 0, 0]


def test_rouge_l_is_that_of_the_package_where_words_are_english():
    from rouge_score.rouge_scorer import RougeScorer

    answer, right = "The cat sat on a mat.", "A cat was sitting on the mat"
    expected = RougeScorer(["rougeL"]).score(right, answer)["rougeL"].fmeasure

    assert RougeL().score([answer, ""], [right, right]) == [pytest.approx(expected), 0]
    draw, scorer = random.Random(5), RougeScorer(["rougeL"])
    for _ in range(200):
        answer, right = (" ".join(draw.choices("abcdef", k=draw.randint(1, 90))) for _ in range(2))
        expected = scorer.score(right, answer)["rougeL"].fmeasure
        assert RougeL().score([answer], [right]) == [pytest.approx(expected)]


def test_bertscore_compares_each_answer_with_its_own_expected_text_whatever_their_lengths(encoder):
    answers = ["hello world", "a longer text about other things", "same", "hello world", ""]
    expected = ["hello world", "no", "same", "another text altogether", "nothing"]
    scorer = BertScore(encoder)

    together = scorer.score(answers, expected)

    assert together == [scorer.score([a], [e])[0] for a, e in zip(answers, expected, strict=True)]
    assert (together[0], together[2]) == (pytest.approx(1), pytest.approx(1))
    assert 0 < together[3] < 0.999
    assert together[4] == 0


def test_bertscore_follows_the_papers_greedy_matching(encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    def states(text):
        ids = AutoTokenizer.from_pretrained(encoder)(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            found = AutoModel.from_pretrained(encoder)(ids).last_hidden_state[0, 1:-1]  # without [CLS] and [SEP]
        return found / found.norm(dim=-1, keepdim=True)

    answer, right = "a cat on the mat", "the dog"
    likeness = states(answer) @ states(right).T
    precision, recall = likeness.max(dim=1).values.mean(), likeness.max(dim=0).values.mean()

    assert BertScore(encoder).score([answer], [right]) == [
        pytest.approx(float(2 * precision * recall / (precision + recall)), abs=1e-5)
    ]


def test_the_measure_says_which_one_it_is(encoder):
    assert text_scorer(None).name == "rouge_l_f1"
    assert text_scorer(encoder).name.startswith("bertscore_f1 (encoder")


def test_a_missing_package_is_named(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.text.bert", None)
    with pytest.raises(Invalid, match=r"\.\[metrics\]"):
        text_scorer(encoder)


def test_an_encoder_that_does_not_load_is_named(tmp_path):
    with pytest.raises(Invalid, match="does not load"):
        text_scorer(tmp_path)


@pytest.mark.skipif(not ENCODER, reason="SIGNALBOX_TEST_ENCODER names no sentence encoder")
def test_a_real_encoder_scores_a_paraphrase_above_another_topic():
    from pathlib import Path

    right = ["The patient has diabetes and needs insulin."] * 2
    near, far = BertScore(Path(ENCODER)).score(
        ["A diabetic patient who requires insulin.", "Gold fell 20 cents."], right
    )
    assert near > far + 0.1
