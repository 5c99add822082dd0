"""Prototypes from vectors: several centroids a label, and scores of a text without itself."""

import numpy as np
import pytest

from services.trainer.training.prototypes import TEXTS_A_CENTROID, fit_prototypes, left_out_scores
from shared.errors import Invalid
from shared.model.features import normalised
from shared.model.prototypes import Prototypes

LABELS = ["bank.cards", "bank.loans", "travel.trips"]


def clouds(rows, width=32, spread=0.1, seed=0):
    """Vectors of a label in two far clouds each, and their labels."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(2 * len(LABELS), width))
    vectors = [middles[2 * at + row % 2] for at in range(len(LABELS)) for row in range(rows)]
    noise = rng.normal(size=(len(vectors), width)) * spread
    return (np.array(vectors) + noise).astype(np.float32), [label for label in LABELS for _ in range(rows)]


def test_each_label_gets_as_many_centroids_as_its_rows_allow_and_the_nearest_one_decides():
    few, many = (fit_prototypes(*clouds(rows), 0, 0) for rows in (2, 2 * TEXTS_A_CENTROID))
    assert np.bincount(few.prototypes.centroids.owners).tolist() == [1, 1, 1]
    assert np.bincount(many.prototypes.centroids.owners).tolist() == [2, 2, 2]
    vectors, labels = clouds(4, seed=0)
    scores = many.prototypes.score(vectors)
    assert [LABELS[column] for column in scores.argmax(axis=1)] == labels
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("rows", [2, 5, 40])
def test_a_text_is_scored_as_by_prototypes_that_were_made_without_it(rows):
    vectors, labels = clouds(rows, spread=0.6)
    fitted = fit_prototypes(vectors, labels, 0, 0)
    found = left_out_scores(fitted, np.arange(len(vectors)))
    for row in (0, len(vectors) - 1):
        others = np.arange(len(vectors)) != row
        means = [
            normalised(fitted.directions[others & (fitted.members == one)].mean(axis=0, keepdims=True))[0]
            for one in range(len(fitted.prototypes.centroids.owners))
        ]
        expected = fitted.prototypes.log_probabilities(fitted.directions[[row]] @ np.array(means).T)
        np.testing.assert_allclose(found[row], expected[0], atol=1e-4)


def test_a_dimension_that_is_large_everywhere_does_not_drown_the_others():
    vectors, labels = clouds(4)
    drowned = np.hstack([vectors, 1000 + 50 * np.random.default_rng(1).normal(size=(len(vectors), 1))]).astype(
        np.float32
    )
    fitted = fit_prototypes(drowned, labels, 0, 0)
    scores = left_out_scores(fitted, np.arange(len(labels)))
    assert [LABELS[column] for column in scores.argmax(axis=1)] == labels


def test_a_labels_only_text_says_nothing_for_it():
    vectors, labels = clouds(2)
    fitted = fit_prototypes(vectors[1:], labels[1:], 0, 0)
    (scores,) = left_out_scores(fitted, np.array([0]))
    assert scores.argmin() == 0


def test_stored_prototypes_score_as_before_in_any_order_of_labels(tmp_path):
    vectors, labels = clouds(3)
    made = fit_prototypes(vectors, labels, 7, 0).prototypes
    stored = Prototypes.load(made.save(tmp_path / "one.safetensors"))
    assert (tmp_path / "one.safetensors").read_bytes() == made.save(tmp_path / "two.safetensors").read_bytes()
    assert stored.layer == 7
    np.testing.assert_allclose(stored.score(vectors), made.score(vectors), atol=0.05)
    turned = stored.in_order(LABELS[::-1])
    np.testing.assert_allclose(turned.score(vectors)[:, ::-1], stored.score(vectors), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Invalid, match="holds no prototypes of this version"):
        Prototypes.load(tmp_path / "file")
