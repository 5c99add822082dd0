"""Dialogues made of rows, and the reading that is fitted to them."""

import numpy as np
import pytest

from services.trainer.evaluation.dialogues import ELLIPTIC_TURNS, MOST_ROWS, make_dialogues
from services.trainer.evaluation.fit_reading import fit_reading
from services.trainer.training.light import fit_light
from shared.contracts.dialogue import Parts, select_turn
from shared.contracts.manifests import ReleaseSelector
from shared.contracts.reading import RequestReading

TOPICS = {
    "bank.cards": ["card", "limit", "machine", "swallowed", "stolen", "contactless"],
    "bank.loans": ["loan", "interest", "repay", "mortgage", "years", "instalment"],
    "travel.trips": ["train", "mountains", "ticket", "window", "seat", "platform"],
    "none.none": ["football", "emperor", "poem", "planet", "recipe", "joke"],
}
FILLER = ["please", "could", "you", "tell", "me", "something", "about", "the", "one", "that", "I", "have", "for", "my"]
READING = RequestReading(mode="dialogue", harness_tags=("mine",))


def rows(seed, count=30):
    """Texts of eight words, three of which tell the label."""
    draw = np.random.default_rng(seed)
    return {
        label: [" ".join([*draw.choice(FILLER, 5), *draw.choice(words, 3)]) for _ in range(count)]
        for label, words in TOPICS.items()
    }


@pytest.fixture(scope="module")
def light():
    return fit_light(rows(0))


@pytest.fixture(scope="module")
def selector(light):
    return ReleaseSelector(light="l", labels=tuple(light.labels), threshold=0.3)


def fitted(selector, light, validation):
    return fit_reading(selector, READING, validation, parts_of(light), seed=0)


def parts_of(light):
    return Parts(lambda text: light.score([text])[0].tolist(), lambda text: pytest.fail(f"read in vain: {text}"))


def test_dialogues_are_what_their_kind_says():
    own = rows(1)
    for dialogue in make_dialogues(own, ELLIPTIC_TURNS, 50, 3):
        before, last = dialogue.turns[:-1], dialogue.turns[-1]
        assert 2 <= len(dialogue.turns) <= MOST_ROWS
        assert (last in own[dialogue.gold]) == (dialogue.kind != "elliptic")
        of_gold = [turn in own[dialogue.gold] for turn in before]
        assert {"stay": all, "elliptic": all, "switch": lambda f: not all(f), "outside": lambda f: not any(f)}[
            dialogue.kind
        ](of_gold)


def test_the_same_seed_makes_the_same_dialogues_and_a_lone_label_none_that_switch():
    own = rows(1)
    assert make_dialogues(own, ELLIPTIC_TURNS, 5, 3) == make_dialogues(own, ELLIPTIC_TURNS, 5, 3)
    assert make_dialogues(own, ELLIPTIC_TURNS, 5, 3) != make_dialogues(own, ELLIPTIC_TURNS, 5, 4)
    alone = {"bank.cards": own["bank.cards"]}
    assert {dialogue.kind for dialogue in make_dialogues(alone, ELLIPTIC_TURNS, 5, 3)} == {"stay", "elliptic"}
    assert make_dialogues({"bank.cards": ["one"]}, ELLIPTIC_TURNS, 5, 3) == []


def test_a_reading_is_fitted_that_routes_dialogues_of_other_rows(selector, light):
    reading = fitted(selector, light, rows(1))
    assert (reading.mode, reading.harness_tags) == ("dialogue", ("mine",))
    parts = parts_of(light)
    right, alone = {}, {}
    for dialogue in make_dialogues(rows(2), ("now do that", "why so", "and then"), 60, 5):
        gold = "" if dialogue.kind == "outside" else dialogue.gold
        for found, turns in ((right, dialogue.turns), (alone, dialogue.turns[-1:])):
            label = select_turn(selector, reading, turns, parts).label
            found.setdefault(dialogue.kind, []).append(label == gold)
    assert min(np.mean(right[kind]) for kind in ("stay", "switch", "elliptic")) >= 0.9
    assert np.mean(alone["elliptic"]) < 0.6


def test_the_same_rows_fit_the_same_reading(selector, light):
    assert fitted(selector, light, rows(1)) == fitted(selector, light, rows(1))


@pytest.mark.parametrize(
    "validation", [{}, {"bank.cards": ["a b c", "d e f"]}, {"bank.cards": ["a"], "bank.loans": ["b"]}]
)
def test_too_few_rows_leave_the_usual_numbers(selector, light, validation):
    assert fitted(selector, light, validation) == READING
