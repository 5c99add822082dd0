"""The rows most like a text."""

import numpy as np

from services.selector.scoring.neighbours import MAX_CHARS, ROWS, SHOWN, Neighbours
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.contracts.rows import Row
from shared.errors import Unavailable
from shared.model.light import FEATURES

CARDS = ["my card limit", "block my card", "raise the limit of my card"]
LOANS = ["a loan for a house", "how much is a loan"]
ROWS_OF = {"cards": [Row(input=text) for text in CARDS], "loans": [Row(input=text) for text in LOANS]}


def release(**sets):
    labels = {
        label: ReleaseLabel(adapter="a", ref=f"{label}@1", group="bank", template="chatml", instruction="")
        for label in ("cards", "loans")
    }
    chosen = ReleaseSelector(light="l", labels=("cards", "loans"), threshold=0)
    verdict = Verdict(passed=True, reasons=())
    return Release(
        tenant_id="t", base_model="tiny", labels=labels, selector=chosen, representation=sets, verdict=verdict
    )


WHOLE = release(cards="cards", loans="loans")


def neighbours(get_rows=ROWS_OF.__getitem__):
    return Neighbours(get_rows, lambda _: np.ones(FEATURES, dtype=np.float32))


def test_the_nearest_row_comes_first_and_the_same_text_is_as_near_as_can_be():
    found = neighbours().near(WHOLE, "Block my  card", ["cards", "loans"])
    assert (found[0].label, found[0].text, found[0].similarity) == ("cards", "block my card", 1.0)
    assert {row.label for row in found[:3]} == {"cards"}
    assert [row.similarity for row in found] == sorted((row.similarity for row in found), reverse=True)
    assert len(found) == SHOWN


def test_labels_without_rows_and_a_text_without_words_are_no_error():
    assert {row.label for row in neighbours().near(release(loans="loans"), "!!!", ["none.none", "cards", "loans"])} == {
        "loans"
    }


def test_a_store_that_is_away_costs_the_neighbours_alone():
    def away(_):
        raise Unavailable("store_unavailable", "away")

    assert neighbours(away).near(WHOLE, "card", ["cards"]) == []


def test_rows_and_texts_are_bounded():
    many = [Row(input=f"{'x' * 2 * MAX_CHARS} {number}") for number in range(2 * ROWS)]
    asked = []

    def get_rows(key):
        asked.append(key)
        return [*many[:ROWS], Row(input="card")]

    near = neighbours(get_rows).near
    assert all(len(row.text) == MAX_CHARS + 1 for row in near(WHOLE, "card", ["cards"]))
    near(WHOLE, "card", ["cards"])
    assert asked == ["cards"]
