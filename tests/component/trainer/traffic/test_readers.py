"""Unknown tasks are looked for by what tells known labels best apart."""

import numpy as np
import pytest

from services.trainer.traffic.readers import best_reader, models_at_hand, told_apart
from services.trainer.traffic.vectors import NgramSpace
from shared.errors import Invalid
from shared.model.prototypes import Reading

LABELS = ["bank.cards", "travel.trips", "home.garden"] * 20
WORDS = {"bank.cards": "card limit", "travel.trips": "train ticket", "home.garden": "rose hedge"}
TEXTS = [f"{WORDS[label]} number {number}" for number, label in enumerate(LABELS)]


def noise(texts):
    return np.random.default_rng(len(texts)).normal(size=(len(texts), 8)).astype(np.float32)


def words(texts):
    return NgramSpace(TEXTS).vectors(texts)


def test_texts_that_share_words_lie_apart_and_noise_does_not():
    assert told_apart(words(TEXTS), LABELS) == 1.0
    assert told_apart(noise(TEXTS), LABELS) < 0.7
    assert told_apart(words(TEXTS[:2]), ["bank.cards", "travel.trips"]) == 0.0  # none is on both sides


@pytest.mark.parametrize("readers", [[words, noise], [noise, words], [words, words]])
def test_the_better_reader_is_taken_and_the_first_of_equal_ones(readers):
    assert best_reader(readers, TEXTS, LABELS) is words


def test_an_encoder_or_a_small_base_model_is_at_hand_and_a_large_one_is_not(tiny_folder, tmp_path, monkeypatch):
    (reader,) = models_at_hand(Reading(lambda: tiny_folder))
    assert reader(["one", "two"]).shape == (2, 32)
    with pytest.raises(Invalid, match="SIGNALBOX_ENCODER"):
        next(models_at_hand(Reading(lambda: tiny_folder, tmp_path)))
    monkeypatch.setattr("services.trainer.traffic.readers.MOST_WEIGHT_BYTES", 10)
    assert list(models_at_hand(Reading(lambda: tiny_folder))) == []
