import numpy as np
import pytest

from services.trainer.traffic.projection import COMPONENTS, fit_projection
from services.trainer.traffic.window import LEAST_FIRST, Request, joined, reference_of, window_of
from shared.contracts.generation import SelectionResult
from shared.errors import Invalid


def requests(count, label="bank.cards"):
    return [Request(f"text {n}", label, 0.9, 0.8) for n in range(count)]


def window(count, label="bank.cards"):
    return window_of(requests(count, label), np.ones((count, 3)))


def test_a_request_is_what_its_selection_says():
    selection = SelectionResult(best_label="a.b", probability=0.4, confidence=0.3, rejected=True, ambiguous=True)
    assert Request.of("hello", selection) == Request("hello", "a.b", 0.4, 0.3, True, True)


@pytest.mark.parametrize(("by", "is_disputed"), [("light", False), ("both", True), ("kept", True), ("llm", False)])
def test_a_request_is_disputed_where_the_selectors_parts_were_at_odds(by, is_disputed):
    found = Request.of("hello", SelectionResult(best_label="a.b", probability=0.9, confidence=0.9, by=by))
    assert found.is_disputed == is_disputed


def test_a_selection_of_an_older_version_has_the_probability_as_its_confidence():
    assert Request.of("hello", SelectionResult(best_label="a.b", probability=0.4)).confidence == 0.4


def test_a_request_whose_label_was_named_says_nothing():
    assert Request.of("hello", SelectionResult(label="a.b", best_label="a.b", probability=1.0, by="named")) is None
    assert Request.of("hello", SelectionResult(label="a.b")) is None


def test_a_window_leaves_out_requests_that_say_nothing_with_their_vectors():
    found = window_of([None, *requests(1), None], np.arange(6).reshape(3, 2))
    assert found.texts == ("text 0",)
    assert found.vectors.tolist() == [[2.0, 3.0]]
    assert found.labels.tolist() == ["bank.cards"]


def test_a_window_without_requests_is_empty():
    assert len(window_of([], np.zeros((0, 3)))) == 0
    assert window_of([None], np.zeros((1, 3))).vectors.shape == (0, 3)


def test_each_request_needs_a_vector():
    with pytest.raises(Invalid, match="2 requests have 1 vectors"):
        window_of(requests(2), np.zeros((1, 3)))


def test_windows_are_joined_in_their_order():
    both = joined([window(2, "a.b"), window(1, "c.d")])
    assert both.labels.tolist() == ["a.b", "a.b", "c.d"]
    assert both.texts == ("text 0", "text 1", "text 0")


def test_the_first_windows_are_the_reference_once_they_have_enough_requests():
    validation, first = window(10), [window(LEAST_FIRST - 1), window(1)]
    assert len(reference_of(validation, first).requests) == LEAST_FIRST
    assert reference_of(validation, first).basis is validation


def test_until_then_half_of_the_validation_rows_is_the_reference_and_the_other_half_its_basis():
    reference = reference_of(window(11), [window(LEAST_FIRST - 1)])
    assert reference.basis.texts == tuple(f"text {n}" for n in range(0, 11, 2))
    assert reference.requests.texts == tuple(f"text {n}" for n in range(1, 11, 2))


def test_a_projection_keeps_the_directions_in_which_texts_differ_and_their_distances():
    plane = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32) @ np.eye(2, 9, dtype=np.float32)
    projection = fit_projection(plane + 5)
    seen = projection.of(plane + 5)
    assert seen.shape == (50, 2)
    assert np.linalg.norm(seen[3] - seen[7]) == pytest.approx(np.linalg.norm(plane[3] - plane[7]), rel=1e-4)
    assert seen.mean(axis=0) == pytest.approx([0, 0], abs=1e-5)


def test_a_projection_has_no_more_directions_than_it_says():
    assert fit_projection(np.random.default_rng(0).normal(size=(99, 80))).components.shape == (80, COMPONENTS)


@pytest.mark.parametrize("vectors", [np.zeros((0, 4)), np.ones((1, 4)), np.zeros((9, 4)), np.ones((9, 4))])
def test_texts_that_are_all_alike_have_no_direction(vectors):
    projection = fit_projection(vectors.astype(np.float32))
    assert projection.of(np.ones((2, 4), dtype=np.float32)).shape == (2, 0)
    assert projection.width == 1.0
