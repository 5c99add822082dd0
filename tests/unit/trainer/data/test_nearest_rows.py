import numpy as np
import pytest

from services.trainer.data.nearest_rows import representative_rows

DISTANCES = ["l2", "ip", "cos"]
CLUSTERINGS = ["by-distance", "paper-code"]


def clouds(centres, rows_each=30, spread=0.05):
    dice = np.random.default_rng(0)
    made = [centre + dice.normal(0, spread, (rows_each, len(centre))) for centre in np.asarray(centres, float)]
    return np.concatenate(made).astype(np.float32)


def dice(rows, width=16, seed=1):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_each_cluster_is_represented(distance, clustering):
    vectors = clouds([[10, 0, 0], [0, 10, 0], [0, 0, 10]])

    assert [row // 30 for row in representative_rows(vectors, 3, distance, clustering=clustering)] == [0, 1, 2]


def test_l2_tells_lengths_apart_and_cosine_does_not():
    short_and_long = clouds([[1, 0], [100, 0]])

    assert {row // 30 for row in representative_rows(short_and_long, 2, "l2")} == {0, 1}
    angles = representative_rows(np.concatenate([short_and_long, clouds([[0, 1]])]), 2, "cos")
    assert {row // 30 == 2 for row in angles} == {True, False}


@pytest.mark.parametrize("distance", DISTANCES)
def test_doubles_are_replaced_until_there_are_k_different_rows(distance):
    vectors = np.concatenate([np.ones((20, 4), np.float32), clouds([[5, 0, 0, 0]], rows_each=5)])

    rows = representative_rows(vectors, 12, distance)

    assert len(rows) == len(set(rows)) == 12


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_shortfall_is_topped_up_around_what_is_chosen_or_left_for_the_report(distance):
    vectors = dice(400) * np.linspace(1, 20, 400, dtype=np.float32)[:, None]

    short = representative_rows(vectors, 200, distance, shortfall="report")
    full = representative_rows(vectors, 200, distance, shortfall="top-up")

    assert len(set(short)) == len(short) <= 200 == len(set(full))
    assert set(short) <= set(full)


def test_by_inner_product_long_rows_are_nearest_to_many_centroids_so_fewest_are_left():
    """The paper's figure 2: inner product gives a limited number of rows, Euclidean distance the most."""
    vectors = dice(600) * np.linspace(1, 20, 600, dtype=np.float32)[:, None]

    left = {name: len(representative_rows(vectors, 200, name, shortfall="report")) for name in DISTANCES}

    assert left["ip"] < left["cos"] <= left["l2"]


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_seed_fixes_the_rows(distance):
    vectors = dice(300)

    assert representative_rows(vectors, 20, distance, seed=3) == representative_rows(vectors, 20, distance, seed=3)
    assert representative_rows(vectors, 20, distance, seed=3) != representative_rows(vectors, 20, distance, seed=4)


def test_fewer_rows_than_k_are_all_taken():
    assert representative_rows(np.zeros((3, 2), np.float32), 10) == [0, 1, 2]
    assert representative_rows(np.zeros((0, 2), np.float32), 10) == []
