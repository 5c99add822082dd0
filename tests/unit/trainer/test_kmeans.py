import numpy as np
import pytest

from services.trainer.infra.kmeans import representative_rows

DISTANCES = ["l2", "ip", "cos"]


def clouds(centres, rows_each=30, spread=0.05):
    dice = np.random.default_rng(0)
    return np.concatenate(
        [centre + dice.normal(0, spread, (rows_each, len(centre))) for centre in np.asarray(centres, float)]
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_each_cluster_is_represented(distance):
    vectors = clouds([[10, 0, 0], [0, 10, 0], [0, 0, 10]])

    assert [row // 30 for row in representative_rows(vectors, 3, distance)] == [0, 1, 2]


def test_l2_tells_lengths_apart_and_cosine_does_not():
    short_and_long = clouds([[1, 0], [100, 0]]).astype(np.float32)

    assert {row // 30 for row in representative_rows(short_and_long, 2, "l2")} == {0, 1}
    angles = representative_rows(np.concatenate([short_and_long, clouds([[0, 1]])]), 2, "cos")
    assert {row // 30 == 2 for row in angles} == {True, False}


@pytest.mark.parametrize("distance", DISTANCES)
def test_doubles_are_replaced_until_there_are_k_different_rows(distance):
    vectors = np.concatenate([np.ones((20, 4)), clouds([[5, 0, 0, 0]], rows_each=5)])

    rows = representative_rows(vectors, 12, distance)

    assert len(rows) == len(set(rows)) == 12


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_seed_fixes_the_rows(distance):
    vectors = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32)

    assert representative_rows(vectors, 20, distance, seed=3) == representative_rows(vectors, 20, distance, seed=3)
    assert representative_rows(vectors, 20, distance, seed=3) != representative_rows(vectors, 20, distance, seed=4)


def test_fewer_rows_than_k_are_all_taken():
    assert representative_rows(np.zeros((3, 2), np.float32), 10) == [0, 1, 2]
    assert representative_rows(np.zeros((0, 2), np.float32), 10) == []
