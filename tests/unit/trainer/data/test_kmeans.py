import numpy as np
import pytest
from sklearn.cluster import KMeans

from services.trainer.data.kmeans import cluster, seeds
from shared.model.features import normalised


def inertia(vectors, centroids):
    distances = ((vectors[:, None] - centroids[None]) ** 2).sum(-1)
    return float(distances.min(axis=1).sum())


@pytest.fixture(scope="module")
def vectors():
    """Forty clouds of unequal width and size."""
    dice = np.random.default_rng(0)
    made = [dice.normal(dice.normal(0, 3, 8), 0.2 + n / 40, (10 + 2 * n, 8)) for n in range(40)]
    return np.concatenate(made).astype(np.float32)


def test_the_inertia_is_that_of_scikit_learns_best_start(vectors):
    ours = inertia(vectors, cluster(vectors, 60))
    theirs = KMeans(60, n_init=1, random_state=0).fit(vectors).inertia_

    assert ours < 1.03 * theirs


def test_seeds_are_rows_and_all_different_where_the_rows_are(vectors):
    found = seeds(vectors, 200, seed=1)

    assert len(np.unique(found, axis=0)) == 200
    assert {row.tobytes() for row in found} <= {row.tobytes() for row in vectors}


def test_there_are_k_seeds_of_fewer_different_rows():
    assert seeds(np.ones((30, 4), np.float32), 20, seed=0).shape == (20, 4)


@pytest.mark.parametrize("distance", ["ip", "cos"])
def test_centroids_lie_on_the_sphere_unless_the_papers_program_is_followed(vectors, distance):
    lengths = np.linalg.norm(cluster(vectors, 20, distance), axis=1)

    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    np.testing.assert_array_equal(cluster(vectors, 20, distance, "paper-code"), cluster(vectors, 20, "l2"))


def test_the_inner_product_weighs_rows_by_their_length():
    """A long row among short ones of another direction draws their common centroid to itself."""
    rows = np.array([[1, 0]] * 9 + [[8, 8]], np.float32)

    by_length, alike = (cluster(rows, 1, distance)[0] for distance in ("ip", "cos"))

    assert by_length[1] > 2 * alike[1]


def test_a_vector_without_length_stays_as_it_is():
    assert normalised(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [
        [0, 0],
        [pytest.approx(0.6), pytest.approx(0.8)],
    ]
