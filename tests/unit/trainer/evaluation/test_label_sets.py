import pytest

from services.trainer.evaluation.label_sets import measure_sets
from shared.contracts.selection import Candidate, Selection


def selection(label_set, label=""):
    best = Candidate(label or "a.x", 0.9)
    return Selection(label, best, 0.9, [], label_set, "light")


def test_coverage_is_stated_as_long_as_the_rows_do_not_refute_it():
    found = [selection(["a.x"], "a.x")] * 91 + [selection(["a.y"], "a.y")] * 9

    sets = measure_sets(found, ["a.x"] * 100, 0.95)

    assert sets.coverage == pytest.approx(0.91)
    assert sets.stated == 0.95


def test_coverage_that_the_rows_refute_is_not_stated_and_the_note_says_what_to_do():
    found = [selection(["a.x"], "a.x")] * 214 + [selection(["a.y"], "a.y")] * 31

    sets = measure_sets(found, ["a.x"] * 245, 0.95)

    assert sets.stated is None
    assert sets.interval.high < 0.95
    assert "train again with rows like these" in sets.note


def test_empty_sets_and_chosen_labels_outside_their_set_are_counted_and_background_is_left_out():
    found = [selection([]), selection(["a.x", "a.y"], "a.x"), selection(["a.y"], "a.x"), selection(["a.x"])]

    sets = measure_sets(found, ["a.x", "a.x", "a.x", "none.none"], 0.95)

    assert (sets.empty, sets.taken_inside, sets.mean_size) == (1, 0.5, 1.0)
    assert "rejected" in sets.note


def test_no_rows_refute_nothing():
    assert measure_sets([], [], 0.95).stated == 0.95
