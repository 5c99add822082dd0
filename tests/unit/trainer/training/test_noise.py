import random
import re
from collections import Counter

import pytest

from services.trainer.training.noise import NEAR_MISSES, misspelt, near_misses, with_noise

TEXTS = {
    "bank.cards": ["my card is lost", "block the card", "card declined at the shop"],
    "travel.trips": ["book a flight to rome", "when does my flight leave"],
    "none.none": ["tell me a joke", "sing", "what is the weather like in the city", ""],
}


def test_the_share_of_letters_changes_and_nothing_else():
    text = "abc 123, " * 2000

    wrong = misspelt(text, "x", random.Random(0), share=0.1)

    assert re.sub(r"[a-z]", "", wrong) == re.sub(r"[a-z]", "", text)
    assert 0.04 < wrong.count("x") / 6000 < 0.06  # half of the changes replace a letter, half leave it out
    assert 0.94 < sum(map(str.isalpha, wrong)) / 6000 < 0.96


def test_near_misses_are_background_with_one_or_two_words_of_labels():
    of_labels = {word for label in ("bank.cards", "travel.trips") for text in TEXTS[label] for word in text.split()}

    for seed in range(20):
        for text, near in zip(TEXTS["none.none"], near_misses(TEXTS, random.Random(seed)), strict=True):
            words, own = near.split(), text.split()
            borrowed = [word for word, former in zip(words, own, strict=True) if word != former]
            assert len(borrowed) <= 2
            assert set(borrowed) <= of_labels
            assert len(own) < 2 or len(borrowed) < len(own)


def test_words_that_are_typical_of_labels_are_borrowed_more_often_than_words_of_background():
    texts = {"a.x": ["the card"] * 10, "none.none": ["the weather in the city"] * 200}
    borrowed = " ".join(near_misses(texts, random.Random(0)))
    assert borrowed.count("card") > 150


def test_every_text_stays_beside_a_misspelt_copy_and_background_beside_its_near_misses():
    rows = with_noise(TEXTS)
    clean = [(label, text) for label, own in sorted(TEXTS.items()) for text in own]
    assert [(row.label, row.text) for row in rows if row.weight == 1] == clean
    assert Counter(row.label for row in rows) == {
        "bank.cards": 6,
        "none.none": 4 * (2 + NEAR_MISSES),
        "travel.trips": 4,
    }
    assert with_noise(TEXTS) == rows != with_noise(TEXTS, seed=1)


def test_near_misses_weigh_as_much_as_the_background_that_they_come_from():
    rows = with_noise(TEXTS)
    near = rows[9 : 9 + 4 * NEAR_MISSES]
    assert {row.label for row in near} == {"none.none"}
    assert sum(row.weight for row in near) == pytest.approx(4)


def test_without_background_nothing_is_made_background():
    assert {row.label for row in with_noise({"a.x": ["one"], "b.y": ["two"]})} == {"a.x", "b.y"}


def test_background_alone_beside_texts_without_words_has_no_near_misses():
    assert near_misses({"a.x": ["!"], "none.none": ["two words"]}, random.Random(0)) == []
