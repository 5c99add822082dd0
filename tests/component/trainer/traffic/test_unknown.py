import numpy as np
import pytest

from services.trainer.traffic.space import fit_space
from services.trainer.traffic.unknown import (
    MOST_TEXTS,
    Rows,
    propose,
    unknown_rows,
)
from services.trainer.traffic.window import Request, window_of
from shared.contracts.labels import parse_label
from shared.contracts.training_tasks import MIN_ROWS
from shared.errors import Invalid

HIDDEN = 32
DIRECTIONS = {
    name: np.random.default_rng(at).normal(size=HIDDEN) / np.sqrt(HIDDEN)
    for at, name in enumerate(("bank.cards", "bank.loans", "home.lights", "oil", "pizza"))
}


def vectors(name, count, seed=0):
    rng = np.random.default_rng([seed, *name.encode()])
    return (DIRECTIONS[name] + 0.1 * rng.normal(size=(count, HIDDEN))).astype(np.float32)


def texts(name, count):
    return [f"{name} {number}th {name} please" for number in range(count)]


@pytest.fixture(scope="module")
def known():
    labels = ["bank.cards", "bank.loans", "home.lights"]
    return Rows(
        [text for label in labels for text in texts(label.split(".")[1], 40)],
        [label for label in labels for _ in range(40)],
        np.concatenate([vectors(label, 40) for label in labels]),
    )


def unknown(counts, seed=1):
    own = [text for name, count in counts.items() for text in texts(name.rpartition(".")[2], count)]
    return own, np.concatenate([vectors(name, count, seed) for name, count in counts.items()])


def test_texts_of_new_tasks_are_proposed_with_what_tells_them_from_others(known):
    first, second = propose(*unknown({"oil": 40, "pizza": 30, "bank.loans": 20}), known)
    assert (first.name, second.name) == ("oil", "pizza")
    assert set(first.rows) == set(range(40))
    assert set(second.rows) == set(range(40, 70))
    assert first.terms[0] == "oil"
    assert first.stability > 0.9
    assert (first.needs.least_rows, first.needs.texts_without_answers) == (MIN_ROWS, 40)
    parse_label(f"car.{first.name}")


def test_the_nearest_labels_are_named_with_how_near_they_are(known):
    near = DIRECTIONS["home.lights"] + 0.8 * DIRECTIONS["oil"]
    own, _ = unknown({"oil": 40})
    rng = np.random.default_rng(4)
    (found,) = propose(own, (near + 0.1 * rng.normal(size=(40, HIDDEN))).astype(np.float32), known)
    assert found.nearest[0].label == "home.lights"
    assert found.nearest[0].similarity > found.nearest[1].similarity


def test_unsure_texts_of_known_labels_are_not_proposed(known):
    assert propose(*unknown({"bank.cards": 30, "home.lights": 30}), known) == []


def test_texts_that_have_nothing_in_common_are_not_proposed(known):
    noise = np.random.default_rng(0).normal(size=(200, HIDDEN)).astype(np.float32)
    assert propose([f"text {n}" for n in range(200)], noise, known) == []


def test_a_text_that_came_often_counts_once_and_keeps_all_its_rows(known):
    own, points = unknown({"oil": 20})
    assert propose(["Oil  change"] * 200, np.tile(points[:1], (200, 1)), known) == []
    (found,) = propose([*own, own[0].upper()], np.concatenate([points, points[:1]]), known)
    assert {0, 20} <= set(found.rows)
    assert found.needs.texts_without_answers == 20


def test_a_name_is_unlike_those_of_known_tasks(known):
    taken = Rows(known.texts, [label.replace("cards", "oil") for label in known.labels], known.vectors)
    assert [one.name for one in propose(*unknown({"oil": 40}), taken)] == ["oil-2"]


def test_without_known_rows_clusters_are_proposed_all_the_same():
    nothing = Rows([], [], np.zeros((0, HIDDEN), dtype=np.float32))
    found = propose(*unknown({"oil": 40, "pizza": 30}), nothing)
    assert [set(one.rows) for one in found] == [set(range(40)), set(range(40, 70))]
    assert found[0].nearest == ()


def test_vectors_of_zeros_and_no_texts_propose_nothing(known):
    assert propose(texts("oil", 40), np.zeros((40, HIDDEN), dtype=np.float32), known) == []
    assert propose([], np.zeros((0, HIDDEN), dtype=np.float32), known) == []
    assert propose(texts("oil", 3), vectors("oil", 3), known) == []


def test_each_text_needs_a_vector(known):
    with pytest.raises(Invalid, match="2 texts have 1 vectors"):
        propose(["a", "b"], vectors("oil", 1), known)


def test_of_very_many_texts_some_are_clustered(known, monkeypatch):
    monkeypatch.setattr("services.trainer.traffic.unknown.MOST_TEXTS", 100)
    found = propose(*unknown({"oil": 120, "pizza": 80}), known)
    assert [len(one.rows) for one in found] == [60, 40]
    assert MOST_TEXTS > 1000


def test_the_same_texts_give_the_same_proposals(known):
    given = unknown({"oil": 40, "pizza": 30})
    assert propose(*given, known) == propose(*given, known)


def test_rejected_and_unsure_requests_may_be_unknown():
    def window(confidences, rejected=()):
        requests = [Request("hi", "a.b", c, c, at in rejected) for at, c in enumerate(confidences)]
        return window_of(requests, np.zeros((len(requests), 0)))

    validation = window(np.linspace(0, 1, 101))
    assert unknown_rows(window([0.1, 0.5, 0.9, 0.95], {3}), validation).tolist() == [0, 3]
    assert unknown_rows(window([0.1, 0.9], {1}), window([])).tolist() == [1]


def test_a_space_makes_labels_spread_equally_in_all_directions():
    rng = np.random.default_rng(0)
    labels = [f"a.{n % 5}" for n in range(500)]
    centres = rng.normal(size=(5, 6)) * 3
    points = (centres[np.arange(500) % 5] + rng.normal(size=(500, 6)) * [9, 3, 1, 1, 0.5, 0.1]).astype(np.float32)
    space = fit_space(points, labels)
    turned = (points - space.centre) @ space.turn
    within = np.concatenate([turned[at::5] - turned[at::5].mean(axis=0) for at in range(5)])
    spreads = within.std(axis=0)
    assert spreads.max() / spreads.min() < 5  # 90 before; shrinkage leaves some
    assert np.linalg.norm(space.of(points), axis=1) == pytest.approx(np.ones(500), abs=1e-5)


def test_a_space_of_one_row_a_label_or_of_equal_rows_still_reads_vectors():
    points = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert fit_space(points, ["a", "b", "c"]).of(points).shape == (3, 2)
    assert fit_space(points[:1], ["a"]).of(points) == pytest.approx(points / np.linalg.norm(points, axis=1)[:, None])
    assert fit_space(np.ones((5, 4), dtype=np.float32), ["a"] * 5).of(points).shape == (3, 0)
