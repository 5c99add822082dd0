import pytest
import torch

from services.selector.scoring.card_memory import within_memory
from shared.contracts.manifests import ReleaseSelector
from shared.errors import ServiceAway

SELECTOR = ReleaseSelector(llm="one", labels=("bank.cards", "bank.accounts"), threshold=0)


class Card:
    """Scores a text by its length, as many as it has room for at once."""

    def __init__(self, room):
        self.room = room
        self.batches = []

    def score_many(self, selector, texts):
        if len(texts) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.batches.append(len(texts))
        return [[float(len(text))] for text in texts]


def test_texts_that_do_not_fit_together_are_scored_in_halves_and_in_order():
    card = Card(room=2)

    scores = within_memory(card.score_many)(SELECTOR, ["a", "bb", "ccc", "dddd", "eeeee"])

    assert scores == [[1.0], [2.0], [3.0], [4.0], [5.0]]
    assert card.batches == [2, 1, 2]


def test_what_fits_is_scored_at_once():
    card = Card(room=8)
    within_memory(card.score_many)(SELECTOR, ["a", "bb"])
    assert card.batches == [2]


def test_a_text_that_does_not_fit_alone_is_no_fault_of_its_job():
    with pytest.raises(ServiceAway, match="SIGNALBOX_SELECTOR_DEVICE=cpu"):
        within_memory(Card(room=0).score_many)(SELECTOR, ["a", "bb", "ccc"])


def test_another_error_stays_what_it_is():
    def broken(_selector, _texts):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        within_memory(broken)(SELECTOR, ["a"])
