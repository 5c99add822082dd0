"""Planted changes are found under their kind, with their labels and texts; where nothing changes, hardly any is."""

import numpy as np
import pytest

from services.trainer.traffic.drift import LEAST_REQUESTS, SAMPLED, compare, findings
from services.trainer.traffic.window import Reference, Request, joined, reference_of, window_of

LABELS = [f"d{n // 5}.t{n}" for n in range(20)]


def traffic(
    count, seed, *, shares=None, rejected=0.05, disputed=0.1, probability=(8, 2), moved=0.0, labels=LABELS, zeros=False
):
    """A window of requests; `moved` is the share of texts whose vectors lie elsewhere."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(labels, count, p=shares)
    vectors = rng.normal(size=(count, 16)).astype(np.float32) * (not zeros)
    elsewhere = rng.random(count) < moved
    vectors[elsewhere, :3] += 3
    probabilities = rng.beta(*probability, count)
    flags = zip(rng.random(count) < rejected, rng.random(count) < disputed, strict=True)
    rows = zip(chosen, probabilities, flags, elsewhere, strict=True)
    return window_of(
        [
            Request(f"{'new' if is_new else 'old'} {seed} {at}", str(label), float(p), float(p), bool(no), bool(odd))
            for at, (label, p, (no, odd), is_new) in enumerate(rows)
        ],
        vectors,
    )


@pytest.fixture(scope="module")
def reference():
    return reference_of(traffic(800, 1), [traffic(500, seed) for seed in range(2, 8)])


def kinds(found):
    return {one.kind for one in found}


def test_what_the_reference_shows_is_no_finding(reference):
    assert findings(reference, traffic(500, 100), "w1") == []


def test_a_label_that_grows_is_found_with_its_share_before_and_now(reference):
    shares = np.full(20, 0.8 / 19)
    shares[7] = 0.2
    found = findings(reference, traffic(500, 100, shares=shares), "w1")
    assert kinds(found) == {"label_mix"}
    label = found[0].labels[0]
    assert label.label == LABELS[7]
    assert label.before == pytest.approx(0.05, abs=0.02)
    assert label.after == pytest.approx(0.2, abs=0.05)
    assert found[0].remedy == "balance"
    assert found[0].p_value < 0.001


def test_a_grown_labels_own_texts_are_its_examples(reference):
    shares = np.full(20, 0.8 / 19)
    shares[7] = 0.2
    window = traffic(500, 100, shares=shares)
    examples = findings(reference, window, "w1")[0].examples
    assert len(set(examples)) == 10
    assert {window.labels[row] for row in examples} == {LABELS[7]}


def test_labels_that_nobody_asks_for_any_more_may_be_deleted(reference):
    shares = np.r_[np.zeros(4), np.full(16, 1 / 16)]
    found = findings(reference, traffic(500, 100, shares=shares), "w1")
    assert {one.label for one in found[0].labels[:4]} == set(LABELS[:4])
    assert found[0].remedy == "delete"


def test_more_rejected_texts_are_found_and_shown(reference):
    window = traffic(500, 100, rejected=0.2)
    (found,) = findings(reference, window, "w1")
    assert (found.kind, found.remedy) == ("rejection", "add")
    assert found.statistic == pytest.approx(0.15, abs=0.04)
    assert window.is_rejected[list(found.examples)].all()


def test_fewer_rejected_texts_ask_for_another_threshold():
    strict = reference_of(traffic(800, 1, rejected=0.3), [traffic(1000, 2, rejected=0.3)])
    (found,) = findings(strict, traffic(500, 100, rejected=0.1), "w1")
    assert (found.kind, found.remedy) == ("rejection", "threshold")
    assert found.statistic < 0


def test_parts_of_a_selector_that_disagree_more_are_found(reference):
    window = traffic(500, 100, disputed=0.25)
    (found,) = findings(reference, window, "w1")
    assert (found.kind, found.remedy) == ("disagreement", "balance")
    assert window.is_disputed[list(found.examples)].all()


@pytest.mark.parametrize(("probability", "remedy"), [((5, 4), "retrain"), ((30, 2), "threshold")])
def test_other_probabilities_are_found_and_their_direction_says_what_helps(reference, probability, remedy):
    found = findings(reference, traffic(500, 100, probability=probability), "w1")
    assert kinds(found) == {"probability", "confidence"}
    assert {one.remedy for one in found} == {remedy}


def test_other_texts_under_the_same_labels_are_found_and_shown(reference):
    window = traffic(500, 100, moved=0.2)
    found = findings(reference, window, "w1")
    assert kinds(found) == {"classifier", "discrepancy"}
    for one in found:
        assert one.remedy == "retrain"
        assert sum(window.texts[row].startswith("new") for row in one.examples) >= 9


def test_an_unknown_label_is_found(reference):
    window = joined([traffic(400, 100), traffic(100, 101, labels=["other.thing"])])
    found = next(one for one in findings(reference, window, "w1") if one.kind == "label_mix")
    assert found.labels[0] == pytest.approx(("other.thing", 0.0, 0.2, found.labels[0].errors), abs=0.02)


def test_a_finding_is_as_old_as_the_first_window_that_shows_it_without_a_gap(reference):
    shares = np.r_[np.zeros(4), np.full(16, 1 / 16)]
    first = findings(reference, traffic(500, 100, shares=shares), "w1")
    second = findings(reference, traffic(500, 101, shares=shares, rejected=0.2), "w2", first)
    assert {one.kind: one.since for one in second} == {"label_mix": "w1", "rejection": "w2"}
    gap = findings(reference, traffic(500, 102), "w3", second)
    assert [one.since for one in findings(reference, traffic(500, 103, shares=shares), "w4", gap)] == ["w4"]


def test_the_same_window_gives_the_same_findings(reference):
    window = traffic(500, 100, moved=0.2)
    assert findings(reference, window, "w1") == findings(reference, window, "w1")


def test_a_window_that_is_looked_at_more_often_must_show_more(reference):
    window = traffic(500, 103, rejected=0.09)
    assert kinds(findings(reference, window, "w1", windows_a_month=4)) == {"rejection"}
    assert findings(reference, window, "w1", windows_a_month=30_000) == []


@pytest.mark.parametrize("count", [0, LEAST_REQUESTS - 1])
def test_a_window_of_few_requests_shows_nothing(reference, count):
    assert findings(reference, traffic(count, 100, rejected=1.0), "w1") == []


def test_a_reference_of_few_requests_is_compared_with_nothing():
    assert findings(reference_of(traffic(20, 1), []), traffic(500, 100, rejected=1.0), "w1") == []


def test_a_window_of_rejected_texts_alone_is_found_without_a_mix_of_labels(reference):
    found = findings(reference, traffic(500, 100, rejected=1.1), "w1")
    assert kinds(found) == {"rejection"}


def test_one_label_and_one_text_are_enough():
    def same(count):
        return window_of([Request("hi", "a.b", 0.9, 0.9)] * count, np.ones((count, 4)))

    assert findings(reference_of(same(100), [same(2000)]), same(500), "w1") == []


def test_vectors_of_zeros_say_nothing_and_hide_nothing():
    reference = reference_of(traffic(800, 1, zeros=True), [traffic(2000, 2, zeros=True)])
    assert findings(reference, traffic(500, 100, zeros=True), "w1") == []
    assert kinds(findings(reference, traffic(500, 100, zeros=True, rejected=0.2), "w1")) == {"rejection"}


def test_of_a_large_window_some_texts_are_compared_and_shown(reference):
    window = traffic(SAMPLED + 700, 100, moved=0.2)
    compared = compare(reference, window)
    assert np.isfinite(compared.after.newness).sum() == SAMPLED
    assert all(len(one.examples) == 10 for one in findings(reference, window, "w1"))


def test_a_projection_of_the_compared_requests_themselves_would_find_what_is_not_there():
    """The reason for a reference in two parts: in many directions a fit on one sample alone makes it look special."""
    rng = np.random.default_rng(0)

    def wide(count):
        vectors = rng.normal(size=(count, 400)).astype(np.float32)
        return window_of([Request(str(n), "a.b", 0.9, 0.9) for n in range(count)], vectors)

    small, basis = wide(100), wide(100)
    by_itself = [compare(Reference(small, small), wide(100)).tested["discrepancy"].p_value for _ in range(20)]
    by_another = [compare(Reference(basis, small), wide(100)).tested["discrepancy"].p_value for _ in range(20)]
    assert np.mean(np.array(by_itself) < 0.05) > 0.9
    assert np.mean(np.array(by_another) < 0.05) < 0.3
