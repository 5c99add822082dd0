import numpy as np
import pytest

from services.trainer.traffic.vectors import NgramSpace

TEXTS = ["change my pin", "i lost my card", "where is my card", "turn on the lights", "lights off please"]


def test_texts_that_share_words_lie_closer_together():
    space = NgramSpace(TEXTS)
    card, lost, lights = space.vectors(["my card", "i lost my card", "turn the lights off"])
    assert card @ lost > card @ lights


def test_vectors_have_length_one_and_a_direction_less_than_there_are_texts():
    found = NgramSpace(TEXTS).vectors(TEXTS)
    assert found.shape == (5, 4)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5))


def test_the_same_texts_give_the_same_space():
    assert NgramSpace(TEXTS).vectors(TEXTS).tolist() == NgramSpace(TEXTS).vectors(TEXTS).tolist()


def test_no_texts_have_no_vectors():
    assert NgramSpace(TEXTS).vectors([]).shape == (0, 4)
